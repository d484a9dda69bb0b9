"""The pages about the course: sample answers of the projects pass their checks, and stubs do not; saved tables are what
the stored figures say today."""
import ast
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from student import CODE, SOLUTION


def cells_of(page): return nbformat.read(ROOT / "nbs" / f"{page}.ipynb", as_version=4).cells


CELLS = cells_of("course/projects")
STUBS = [cell.source for cell in CELLS if cell.cell_type == "code" and "def check_" in cell.source]
ANSWERS = [CODE.search(folded)[1] for cell in CELLS for folded in SOLUTION.findall(cell.source)]


@pytest.mark.parametrize("stub, answer", list(zip(STUBS, ANSWERS, strict=True)))
def test_sample_answers_pass_their_checks_and_stubs_do_not(stub, answer):
    names = {}
    exec(next(c.source for c in CELLS if c.cell_type == "code" and not c.source.startswith("#|")), names)
    exec(stub, names)
    checked = re.search(r"def check_(\w+)\(", stub)[1]
    with pytest.raises(NotImplementedError): names["check_" + checked](names[checked])
    exec(answer, names)
    names["check_" + checked](names[checked])


WRONG = {
    "on the films that are counted": """
def operating_point(kept, true, made, most):
    line = true.sort().values[int((1 - most) * (len(true) - 1))]
    return (made > line).float().mean().item(), (true > line).float().mean().item()""",
    "a film at the threshold is an alarm": """
def operating_point(kept, true, made, most):
    line = kept[torch.stack([(kept > s).double().mean() for s in kept]) <= most + 1e-9].min()
    return (made >= line).double().mean().item(), (true >= line).double().mean().item()""",
    "pieces and not seconds": """
def price(pieces, fault):
    share = lambda bad, kept: [bool(fault(p)) != kept for _, b, p in pieces if b == bad]
    mean = lambda x: sum(x) / len(x) if x else 0.0
    return mean(share(True, True)), mean(share(False, False))""",
    "lost of all": """
def price(pieces, fault):
    total = sum(s for s, _, _ in pieces)
    return (sum(s for s, b, p in pieces if b and not fault(p)) / total,
            sum(s for s, b, p in pieces if not b and fault(p)) / total)"""}


@pytest.mark.parametrize("mistake", WRONG)
def test_plausible_mistakes_fail_the_projects_checks(mistake):
    names, checked = {}, re.search(r"def (\w+)\(", WRONG[mistake])[1]
    exec(next(cell.source for cell in CELLS if cell.cell_type == "code"), names)
    exec(next(stub for stub in STUBS if f"def {checked}(" in stub), names)
    exec(WRONG[mistake], names)
    with pytest.raises(AssertionError): names["check_" + checked](names[checked])


def value_of(source, names):
    "Runs a cell; the value of its last line, as a notebook shows it, or None."
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


@pytest.mark.parametrize("page, ids", [
    ("course/paper", None), ("course/plan", None), ("course/instructor", None),
    ("index", ("in-001-852846", "in-006-a9e019", "in-007-f0014a", "in-008-22bbd7", "in-d01-found"))])
def test_saved_tables_are_what_the_stored_figures_say_today(page, ids, monkeypatch):
    monkeypatch.chdir((ROOT / "nbs" / page).parent)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: plt.close("all"))
    names, tables = {}, 0
    for cell in cells_of(page):
        if cell.cell_type != "code" or ids and cell["id"] not in ids: continue
        value = value_of(cell.source, names)
        for output in cell.outputs:
            if "text/markdown" not in output.get("data", {}): continue
            assert output.data["text/markdown"] == value.data, f"run {page}.ipynb again: {cell['id']}"
            tables += 1
    assert tables >= (1 if ids else 3)
