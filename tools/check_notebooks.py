"""Check that notebooks are sound and that the modules are what they export.

    python tools/check_notebooks.py

Reported, one line each, with exit code 1: a notebook that is not valid, is 1 MB or more, holds an error or widget
metadata without state (which GitHub refuses to show), or does not open with a title and a description; a chapter that
lacks a part of the template in CONTRIBUTING.md; outputs that are older than their code, or a notebook that does not
install itself on Colab; a code cell with lines of more than 96 columns, which the site cuts; a
module that differs from the export of its notebook, has more than 400 lines, or lines of more than 120 columns.
"""
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import anywhere
import nbformat
import run_notebooks

ROOT = Path(__file__).resolve().parents[1]
PAGES = "course/"    # about the course: its notebooks export no module, and the template of chapters is not theirs
NARROW, COLUMNS, LINES = 96, 120, 400       # columns of a code cell, columns and lines of a module
EXPORT = "from nbdev.doclinks import nbdev_export; nbdev_export.__wrapped__()"


def files(folder, wanted):
    """The files of a folder and of the folders in it, without hidden ones (.ipynb_checkpoints)."""
    return [path for path in sorted(folder.rglob(wanted))
            if not any(p.startswith(".") for p in path.relative_to(folder).parts)]


def check_notebook(path):
    """What is wrong with one notebook, as lines."""
    if path.stat().st_size >= 1_000_000:
        yield f"{path.name} is {path.stat().st_size / 1e6:.1f} MB: keep saved outputs below 1 MB"
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:   # whatever a damaged file makes the reader say
        yield f"{path.name} is not a valid notebook: {str(error).splitlines()[0]}"
        return
    first = notebook.cells[0] if notebook.cells else None
    titled = first and first.cell_type == "markdown" and first.source.startswith("# ") and "\n> " in first.source
    if not titled:
        yield f"{path.name}: the first cell should be a title and a description (`# Title`, then `> description`)"
    if "widgets" in notebook.metadata and "state" not in json.dumps(notebook.metadata["widgets"]):
        yield f"{path.name}: widget metadata without state"
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"{path.name}: cell {number} holds a saved error, {output.ename}"


def check_template(path):
    """Which parts of a chapter's template are missing, as lines."""
    cells = nbformat.read(path, as_version=4).cells
    markdown = [cell.source for cell in cells if cell.cell_type == "markdown"]
    prose, opening = "\n\n".join(markdown), markdown[1] if len(markdown) > 1 else ""
    section = lambda title: re.search(rf"^## {title}[ ]*$(.*?)(?=^## |\Z)", prose, re.MULTILINE | re.DOTALL)
    if len(markdown[0].strip().split("\n\n")) > 2:
        yield f"{path.name}: the first cell should hold nothing but the title and the description"
    parts = "### In this chapter", "*You will be able to*", "*Before it:*", "*Time:*"
    if missing := [part for part in parts if part not in opening]:
        yield f"{path.name}: the cell behind the title lacks {', '.join(missing)}"
    lines = re.findall(r"^- ", short[1], re.MULTILINE) if (short := section("In short")) else []
    if len(lines) != 5: yield f"{path.name}: `## In short` should have five lines, it has {len(lines)}"
    answers = r"<details><summary>(?!Solution|Hint)"
    asked = len(re.findall(answers, questions[1])) if (questions := section("Questions")) else 0
    if asked != 3: yield f"{path.name}: `## Questions` should have three folded answers, it has {asked}"
    titles = re.findall(r"^## Exercise \d+: \S", prose, re.MULTILINE)
    stubs = [c for c in cells
             if c.cell_type == "code" and "def check_" in c.source and "NotImplementedError" in c.source]
    counts = len(titles), len(stubs), prose.count("<summary>Solution</summary>")
    if min(counts) < 1 or len(set(counts)) > 1:
        yield (f"{path.name}: {counts[0]} titles `## Exercise N: ...`, {counts[1]} stubs with a check, "
               f"{counts[2]} solutions")


def check_runs(path):
    """Outputs that are older than their code, and what a notebook lacks to run on Colab, as lines."""
    notebook = nbformat.read(path, as_version=4)
    if old := run_notebooks.outdated(notebook):
        yield f"{path.name}: outputs are older than their code, in {', '.join(old)}: run tools/run_notebooks.py"
    if path in anywhere.runnable() and (missing := anywhere.equip(notebook, path)):
        yield f"{path.name} lacks {' and '.join(missing)}: run tools/anywhere.py"


def check_width(path):
    """Code cells that are wider than the site's column, as a line."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    wide = {cell["id"]: sum(len(line) > NARROW for line in cell.source.splitlines()) for cell in cells}
    if found := sum(wide.values()):
        yield (f"{path.name}: {found} lines of code of more than {NARROW} columns, in "
               f"{', '.join(name for name, count in wide.items() if count)}")


def check_module(path):
    """A module that is too long, or too wide outside of its list of names, as lines."""
    text = path.read_text()
    lines = len(text.splitlines())
    if lines > LINES: yield f"{path.name} has {lines} lines: more than {LINES}"
    written = re.sub(r"^__all__ = \[.*?\]$", "", text, flags=re.MULTILINE | re.DOTALL).splitlines()
    if (wide := sum(len(line) > COLUMNS for line in written)):
        yield f"{path.name} has {wide} lines of more than {COLUMNS} columns"


def check_export(root):
    """Export all notebooks in a copy, and compare."""
    with tempfile.TemporaryDirectory() as copy:
        copy = Path(copy) / "copy"
        copy.mkdir()
        shutil.copy(root / "settings.ini", copy)
        for folder, wanted in (("nbs", "*.ipynb"), ("vasa_ref", "*.py")):
            for path in files(root / folder, wanted):
                (copy / path.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy / path.relative_to(root))
        export = subprocess.run([sys.executable, "-c", EXPORT], cwd=copy, capture_output=True, text=True)
        if export.returncode:
            yield f"the notebooks cannot be exported: {export.stderr.strip().splitlines()[-1]}"
            return
        for path in files(copy / "vasa_ref", "*.py"):
            committed = root / path.relative_to(copy)
            if not committed.exists() or committed.read_text() != path.read_text():
                yield f"{path.relative_to(copy)} is not what the notebooks export: run nbdev_export"


def main():
    notebooks = files(ROOT / "nbs", "*.ipynb")
    problems = [line for path in notebooks for line in check_notebook(path)]
    for path in notebooks:
        name = path.relative_to(ROOT / "nbs").as_posix()
        if "/" in name and not name.startswith(PAGES): problems += check_template(path)
        problems += check_width(path)
        problems += check_runs(path)
    problems += check_export(ROOT)
    for path in files(ROOT / "vasa_ref", "*.py"):
        if path.name != "_modidx.py": problems += check_module(path)
    print("\n".join(problems) or "notebooks and modules agree")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
