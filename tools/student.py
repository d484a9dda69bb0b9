"""Write the course without its solutions, for students.

    python tools/student.py [FOLDER]

FOLDER (default: student/) gets a copy of nbs/ and the licence. Folded solutions are taken out of the notebooks, and
code cells that run one; nothing else is changed: stubs, their checks, hints, questions and other outputs stay. A folder
that is there already is left as it is, because students may have written into it. The number of exercises is printed.
"""
import argparse
import ast
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from check_notebooks import files

ROOT = Path(__file__).resolve().parents[1]
TITLE = re.compile(r"^## (Exercise\b.*)$", re.MULTILINE)
SOLUTION = re.compile(r"<details><summary>Solution</summary>(.*?)</details>\s*", re.DOTALL)
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def exercises(path):
    """(title, stub and check, solution) of each exercise of a chapter. Every other place takes them from here."""
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    solutions = [CODE.search(folded)[1] for folded in SOLUTION.findall(prose)]
    stubs = [cell.source for cell in cells if cell.cell_type == "code" and not cell.source.startswith("#|")
             and "def check_" in cell.source]
    titles = TITLE.findall(prose)
    assert len(stubs) == len(solutions) == len(titles), path.name
    return list(zip(titles, stubs, solutions))


def functions(code):
    """The functions that some code defines, without its comments and line breaks."""
    try: body = ast.parse(code).body
    except SyntaxError: return set()                   # a cell of IPython's own commands
    return {ast.dump(node) for node in body if isinstance(node, ast.FunctionDef)}


def without_solutions(notebook):
    """(notebook without solutions and without the cells that run one, the number of its exercises)."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    solved = [code.strip() for folded in SOLUTION.findall(prose) for code in CODE.findall(folded)]
    solutions = {function for code in solved for function in functions(code)}
    count, kept = 0, []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            own = cell.source.startswith("#| export")                # the chapter's own code, part of the package
            if any(code in cell.source for code in solved) or not own and functions(cell.source) & solutions: continue
        if cell.cell_type == "markdown":
            count += len(TITLE.findall(cell.source))
            short = SOLUTION.sub("", cell.source)
            if "<summary>Solution" in short: raise SystemExit(f"student: a solution is not closed in cell {cell['id']}")
            if short != cell.source: cell = nbformat.from_dict({**cell, "source": short.rstrip()})
        if cell.source or cell.cell_type != "markdown": kept.append(cell)
    return nbformat.from_dict({**notebook, "cells": kept}), count


def write(folder):
    """Write all of nbs/ without solutions into a new folder; returns the number of exercises."""
    if folder.exists(): raise SystemExit(f"student: {folder} exists: name another folder, or move it away")
    if not folder.parent.is_dir(): raise SystemExit(f"student: no folder {folder.parent}")
    count = 0
    with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
        for path in files(ROOT / "nbs", "*"):
            if path.is_dir(): continue
            copy = Path(unfinished) / "course" / path.relative_to(ROOT / "nbs")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
            if path.suffix != ".ipynb": continue
            notebook, found = without_solutions(nbformat.read(path, as_version=4))
            nbformat.write(notebook, copy)
            count += found
        shutil.copy(ROOT / "LICENSE", Path(unfinished) / "course")
        (Path(unfinished) / "course").rename(folder)
    return count


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "student", metavar="FOLDER")
    folder = parser.parse_args(args).folder
    print(f"{write(folder)} exercises without solutions: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
