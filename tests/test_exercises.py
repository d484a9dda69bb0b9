"""Exercises of the chapters: each has a hint, stubs refuse, and folded solutions pass the checks with nothing but the
module at hand."""

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
from student import TITLE, exercises

CHAPTERS = [NOTEBOOKS / "01_training.ipynb", *sorted(NOTEBOOKS.glob("*/[0-9]*.ipynb"))]


def name_of(path):
    """A chapter's name, as the plan has it: world/01_head."""
    return path.relative_to(NOTEBOOKS).with_suffix("").as_posix()


def of_chapter(path):
    """(module, title, stub and check, solution) of each exercise of a notebook."""
    cells, found = nbformat.read(path, as_version=4).cells, exercises(path)
    assert len(found) >= 3, f"{name_of(path)}: {len(found)} exercises, of three"
    module = next(re.search(r"default_exp (\S+)", cell.source)[1] for cell in cells if "default_exp" in cell.source)
    return [(module, *exercise) for exercise in found]


@pytest.mark.parametrize("path", [pytest.param(path, id=name_of(path)) for path in CHAPTERS])
def test_each_exercise_has_a_folded_hint_above_its_stub(path):
    cells = nbformat.read(path, as_version=4).cells
    above = [cell.source for cell, below in zip(cells, cells[1:])
             if below.cell_type == "code" and "def check_" in below.source and TITLE.search(cell.source)]
    tasks = [re.split(r"^## ", text, flags=re.MULTILINE)[-1] for text in above]
    assert len(tasks) == len(exercises(path)), "a task stands right above its stub"
    for task in tasks:
        hints = re.findall(r"<details><summary>Hint</summary>\n\n(.+?)\n*</details>", task, re.DOTALL)
        assert len(hints) == 1 and len(hints[0]) > 30, task.splitlines()[0]


@pytest.mark.parametrize("path", [pytest.param(path, id=name_of(path)) for path in CHAPTERS])
def test_exercises_are_numbered_and_grow_harder(path):
    prose = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    found = re.findall(r"^## Exercise (\d): .+\n\n\*Difficulty (\d) of 3, \d+ minutes", prose, re.MULTILINE)
    numbers, levels = zip(*found)
    assert numbers == tuple(str(i + 1) for i in range(len(exercises(path)))), numbers
    assert list(levels) == sorted(levels), f"difficulties {levels}"


@pytest.mark.parametrize(
    "module, title, stub, solution",
    [pytest.param(*exercise, id=f"{name_of(path)}: {exercise[1]}") for path in CHAPTERS
     for exercise in of_chapter(path)],
)
def test_solutions_pass_their_checks_and_stubs_do_not(module, title, stub, solution):
    names = {**vars(importlib.import_module("vasa_ref." + module)), "torch": torch, "F": F, "math": math}
    exec(stub, names)
    checked = re.search(r"def check_(\w+)\(", stub)[1]
    with pytest.raises(NotImplementedError):
        names["check_" + checked](names[checked])
    exec(solution, names)
    names["check_" + checked](names[checked])
