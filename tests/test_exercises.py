"""Exercises of the chapters: stubs refuse, and folded solutions pass the checks with nothing but the module at hand."""

import importlib
import math
import re
import sys
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F

NOTEBOOKS = Path(__file__).parents[1] / "nbs"
sys.path.insert(0, str(NOTEBOOKS.parent / "tools"))
from check_notebooks import NOT_YET

CHAPTERS = [p for p in sorted(NOTEBOOKS.glob("*/[0-9]*.ipynb")) if f"{p.parent.name}/{p.stem}" not in NOT_YET]


def exercises(path):
    """(title, stub and check, solution) of each exercise of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    solutions = re.findall(r"<summary>Solution</summary>.*?```python\n(.*?)```", prose, re.DOTALL)
    stubs = [cell.source for cell in cells if cell.cell_type == "code" and not cell.source.startswith("#|")
             and "def check_" in cell.source]
    titles = re.findall(r"^## (Exercise .*)$", prose, re.MULTILINE)
    assert len(stubs) == len(solutions) == len(titles) >= 2, path.name
    module = next(re.search(r"default_exp (\S+)", cell.source)[1] for cell in cells if "default_exp" in cell.source)
    return [(module, *exercise) for exercise in zip(titles, stubs, solutions)]


@pytest.mark.parametrize(
    "module, title, stub, solution",
    [pytest.param(*exercise, id=f"{path.parent.name}/{path.stem}: {exercise[1]}") for path in CHAPTERS
     for exercise in exercises(path)],
)
def test_solutions_pass_their_checks_and_stubs_do_not(module, title, stub, solution):
    names = {**vars(importlib.import_module("vasa_ref." + module)), "torch": torch, "F": F, "math": math}
    exec(stub, names)
    checked = re.search(r"def check_(\w+)\(", stub)[1]
    with pytest.raises(NotImplementedError):
        names["check_" + checked](names[checked])
    exec(solution, names)
    names["check_" + checked](names[checked])
