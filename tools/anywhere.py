"""Make notebooks run anywhere: a badge that opens them on Colab, and a first cell that installs there.

    python tools/anywhere.py [NOTEBOOK ...] [--check]

Without names, all notebooks of nbs/ that a reader runs: chapters, the tour, training, and the projects. What is there
already stays as it is. --check writes nothing, and exits with 1 where something is missing.
"""
import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/vasa-ref/vasa-ref"
COLAB = REPOSITORY.replace("https://github.com", "https://colab.research.google.com/github") + "/blob/main/nbs/"
READ_ONLY = {"index", "films", "results", "course/plan", "course/paper", "course/quiz", "course/instructor",
             "course/glossary", "course/notation"}
INSTALL = f'''#| hide
# on Colab this fetches the course and installs it; anywhere else it does nothing
if "google.colab" in str(get_ipython()):
    get_ipython().system("git clone -q --depth 1 {REPOSITORY}")
    get_ipython().system("pip install -q ./vasa-ref fastcore")
    get_ipython().run_line_magic("cd", "-q vasa-ref/nbs/FOLDER")'''


def runnable():
    "The notebooks that a reader runs."
    return [path for path in sorted((ROOT / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts
            and path.relative_to(ROOT / "nbs").with_suffix("").as_posix() not in READ_ONLY]


def badge(path):
    "The badge of a notebook, as markdown."
    name = path.relative_to(ROOT / "nbs").as_posix()
    return f"[![Open in Colab]({'../' * name.count('/')}colab.svg)]({COLAB}{name})"


def install(path):
    "The source of its first cell that runs."
    folder = path.parent.relative_to(ROOT / "nbs").as_posix()
    return INSTALL.replace("/FOLDER", "" if folder == "." else f"/{folder}")


def equip(notebook, path):
    "Add what is missing to a notebook; returns what that was."
    cells, missing = notebook.cells, []
    first = next(cell for cell in cells[1:] if cell.cell_type == "markdown")
    if badge(path) not in first.source:
        first.source, missing = f"{badge(path)}\n\n{first.source}", ["a badge for Colab"]
    if not any(cell.source == install(path) for cell in cells):
        place = 2 if re.match(r"#\| *default_exp", cells[1].source) else 1
        cells.insert(place, new_code_cell(install(path), id=f"colab-{cells[0]['id'][:8]}"))
        missing.append("a first cell that installs on Colab")
    return missing


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if something is missing")
    args, found = parser.parse_args(), 0
    for path in [path.resolve() for path in args.notebooks] or runnable():
        notebook = nbformat.read(path, as_version=4)
        if missing := equip(notebook, path):
            print(f"{path.relative_to(ROOT)}: {', '.join(missing)}")
            found += 1
            if not args.check: nbformat.write(notebook, path)
    return 1 if found and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
