"""The drawing of the pipeline: it is what the tool draws, and each chapter shows the one of its part."""
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import pipeline


def test_the_files_are_what_the_tool_draws(capsys):
    assert pipeline.main(["--check"]) == 0 and capsys.readouterr().out == ""


def test_a_changed_file_is_reported(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(pipeline, "FOLDER", tmp_path)
    assert pipeline.main([]) == 0 and pipeline.main(["--check"]) == 0
    (tmp_path / "face.svg").write_text("<svg/>")
    assert pipeline.main(["--check"]) == 1 and "face.svg" in capsys.readouterr().out


@pytest.mark.parametrize("part", pipeline.PARTS)
def test_the_boxes_of_one_part_are_lit(part):
    drawing = ElementTree.fromstring(pipeline.pipeline(part))
    boxes = [r.get("fill") for r in drawing.iter("{http://www.w3.org/2000/svg}rect") if r.get("rx")]
    assert len(boxes) == len(pipeline.BOXES)
    assert boxes.count(pipeline.LIT) == sum(one == part for one, *_ in pipeline.BOXES.values())


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").glob("*/[0-9]*.ipynb")),
                         ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_chapter_shows_the_drawing_of_its_part(path):
    prose = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    assert prose.count(f"(../pipeline/{path.parent.name}.svg)") == 1
