"""The pages about the course: sample answers of the projects pass their checks, and stubs do not."""
import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from student import CODE, SOLUTION

CELLS = nbformat.read(ROOT / "nbs" / "course" / "projects.ipynb", as_version=4).cells
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
