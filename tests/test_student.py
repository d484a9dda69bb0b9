"""The course without solutions: none of them remains, and all else is as it was."""
import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import student
from check_notebooks import files


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student") / "course"
    return folder, student.write(folder)


def test_no_solution_remains_and_all_stubs_do(course):
    folder, count = course
    found = 0
    for path in files(ROOT / "nbs", "*.ipynb"):
        text = (folder / path.relative_to(ROOT / "nbs")).read_text()
        left = nbformat.reads(text, as_version=4)
        cells = [cell.source for cell in left.cells]
        assert "<summary>Solution" not in text, path
        folded = student.SOLUTION.findall("\n".join(c.source for c in nbformat.read(path, as_version=4).cells))
        solved = {f for fold in folded for code in student.CODE.findall(fold) for f in student.functions(code)}
        own = [c.source for c in left.cells if c.cell_type == "code" and not c.source.startswith("#| export")]
        assert not solved & {function for source in own for function in student.functions(source)}, path
        if path.parent.name in ("course", "nbs"): continue
        for title, stub, solution in student.exercises(path):
            assert f"## {title}" in "\n".join(cells) and stub in cells and "NotImplementedError" in stub, (path, title)
            assert solution.strip() not in "\n".join(cells)
            assert json.dumps(solution.strip())[1:-1] not in text, (path, title)   # nor in a saved output
            found += 1
    assert found > 100 and count >= found


def test_all_else_is_as_it_was(course):
    folder, _ = course
    originals = [path for path in files(ROOT / "nbs", "*") if path.is_file()]
    assert {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()} == {
        Path("LICENSE"), *(p.relative_to(ROOT / "nbs") for p in originals)}
    runs = {"00-043-3ec4c5", "12-073-07d8ee"}   # in 00_tour and measure/04_metrics, hidden cells that run a solution
    for path in originals:
        copy = folder / path.relative_to(ROOT / "nbs")
        if path.suffix != ".ipynb":
            assert copy.read_bytes() == path.read_bytes()
            continue
        before, after = (nbformat.read(p, as_version=4).cells for p in (path, copy))
        left = {cell["id"]: cell for cell in after}
        for cell in before:
            if "<summary>Solution" not in cell.source and cell["id"] not in runs: assert left[cell["id"]] == cell, path


def test_a_folder_that_is_there_and_an_open_solution_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="exists"): student.write(tmp_path)
    with pytest.raises(SystemExit, match="no folder"): student.write(tmp_path / "no" / "course")
    notebook = new_notebook(cells=[new_markdown_cell("<details><summary>Solution</summary>\n\nopen", id="here")])
    with pytest.raises(SystemExit, match="not closed in cell here"): student.without_solutions(notebook)
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_runs_a_solution_goes_whatever_its_line_breaks():
    solution = "```python\ndef f(a): return a + 1\n```"
    folded = f"## Exercise\n\n<details><summary>Solution</summary>\n\n{solution}\n\n</details>"
    cells = [new_markdown_cell(folded),
             new_code_cell("#| hide\ndef f(a):\n    return (a\n            + 1)  # in two lines\nf(2)"),
             new_code_cell("def f(a):\n    raise NotImplementedError"), new_code_cell("%matplotlib inline")]
    notebook, count = student.without_solutions(new_notebook(cells=cells))
    assert (count, [c.source for c in notebook.cells]) == (1, ["## Exercise", cells[2].source, cells[3].source])


def test_hints_and_other_folds_stay():
    cell = ("## Exercise 1: a\n\n<details><summary>Hint</summary>\nh\n</details>\n\n"
            "<details><summary>Solution</summary>\n\n```python\ns\n```\n\n</details>\n\nNext: b.")
    notebook, count = student.without_solutions(new_notebook(cells=[new_markdown_cell(cell)]))
    assert count == 1
    assert [c.source for c in notebook.cells] == [
        "## Exercise 1: a\n\n<details><summary>Hint</summary>\nh\n</details>\n\nNext: b."]
