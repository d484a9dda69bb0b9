"""The tools that keep notebooks, site and README in order notice what is wrong."""
import base64
import io
import json
import sys
from pathlib import Path

import nbformat
import numpy as np
import PIL.Image
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import anywhere
import check_notebooks
import check_site
import import_graph
import readme
import run_notebooks
import start_time
import world_speed

HEAD = "# Title\n\n> What it is."


def write(path, *cells, **metadata):
    nbformat.write(new_notebook(cells=list(cells), metadata=metadata), path)
    return path


def test_a_sound_notebook_passes(tmp_path):
    assert list(check_notebooks.check_notebook(write(tmp_path / "a.ipynb", new_markdown_cell(HEAD)))) == []


@pytest.mark.parametrize("cells, metadata, said", [
    ([new_markdown_cell("no title")], {}, "title and a description"),
    ([new_markdown_cell(HEAD), new_code_cell("1/0", outputs=[new_output("error", ename="ZeroDivisionError")])], {},
     "saved error, ZeroDivisionError"),
    ([new_markdown_cell(HEAD)], {"widgets": {"application/vnd.jupyter.widget": {}}}, "without state"),
    ([new_markdown_cell(HEAD), new_markdown_cell("x" * 1_000_000)], {}, "1.0 MB")])
def test_an_unsound_notebook_is_named(tmp_path, cells, metadata, said):
    lines = list(check_notebooks.check_notebook(write(tmp_path / "a.ipynb", *cells, **metadata)))
    assert len(lines) == 1 and said in lines[0] and "a.ipynb" in lines[0]


def test_a_damaged_notebook_is_named(tmp_path):
    (tmp_path / "a.ipynb").write_text("{")
    assert "not a valid notebook" in next(check_notebooks.check_notebook(tmp_path / "a.ipynb"))


CHAPTER = {
    "title": new_markdown_cell(HEAD),
    "opening": new_markdown_cell("### In this chapter\n\n*You will be able to* a. *Before it:* b. *Time:* c."),
    "short": new_markdown_cell("## In short\n\n" + "- a line\n" * 5),
    "questions": new_markdown_cell("## Questions\n\n" + "<details><summary>Why?</summary>\nSo.\n</details>\n" * 3),
    "exercise": new_markdown_cell("## Exercise 1: a title"),
    "stub": new_code_cell("def f(x):\n    raise NotImplementedError\n\n\n"
                          "def check_f(student):\n    assert student(1) == 1"),
    "solution": new_markdown_cell("<details><summary>Solution</summary>\n\n"
                                  "```python\ndef f(x): return x\n```\n</details>")}


@pytest.mark.parametrize("change, said", [
    ({}, None),
    ({"title": new_markdown_cell(HEAD + "\n\nAnd more.")}, "nothing but the title"),
    ({"opening": None}, "lacks ### In this chapter"),
    ({"opening": new_markdown_cell("### In this chapter\n\n*You will be able to* a. *Before it:* b.")},
     "lacks *Time:*"),
    ({"short": None}, "`## In short` should have five lines, it has 0"),
    ({"short": new_markdown_cell("## In short\n\n- one line")}, "it has 1"),
    ({"questions": None}, "three folded answers, it has 0"),
    ({"questions": new_markdown_cell("## Questions\n\n<details><summary>Why?</summary>\nSo.\n</details>")}, "it has 1"),
    ({"exercise": None}, "0 titles"), ({"stub": None}, "0 stubs"), ({"solution": None}, "0 solutions"),
    ({"exercise": None, "stub": None, "solution": None}, "0 titles")])
def test_a_chapter_without_a_part_is_named(tmp_path, change, said):
    cells = [cell for cell in (CHAPTER | change).values() if cell is not None]
    lines = list(check_notebooks.check_template(write(tmp_path / "a.ipynb", *cells)))
    assert [said in line and "a.ipynb" in line for line in lines] == [True] * (said is not None)


def test_wide_cells_and_modules_are_named(tmp_path):
    wide = new_code_cell("y" * 97 + "\nz\n" + "y" * 97, id="wide")
    cells = new_code_cell("x" * 96), wide, new_markdown_cell("m" * 200)
    path = write(tmp_path / "a.ipynb", new_markdown_cell(HEAD), *cells)
    assert list(check_notebooks.check_width(path)) == ["a.ipynb: 2 lines of code of more than 96 columns, in wide"]
    assert list(check_notebooks.check_width(write(tmp_path / "b.ipynb", *cells[::2]))) == []
    module = tmp_path / "m.py"
    module.write_text("__all__ = [" + '"a", ' * 40 + "\n" + '"b", ' * 40 + "]\n" + "x" * 121 + "\n" * 400)
    assert list(check_notebooks.check_module(module)) == ["m.py has 402 lines: more than 400",
                                                          "m.py has 1 lines of more than 120 columns"]


def test_a_notebook_runs_saves_and_skips(tmp_path):
    kept = new_code_cell("#| slow\n1/0", outputs=[new_output("stream", text="as it was")])
    path = write(tmp_path / "a.ipynb", new_markdown_cell(HEAD), new_code_cell("x = 20"), kept, new_code_cell("x + 1"))
    result = run_notebooks.run(path, ["slow"])
    assert result.cells[3].outputs[0].data["text/plain"] == "21"
    assert result.cells[2].outputs[0].text == "as it was"
    assert result.metadata == {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"},
                               "outputs_of": {result.cells[3]["id"]: run_notebooks.fingerprint(result.cells[3])}}
    assert run_notebooks.outdated(result) == [result.cells[2]["id"]]              # skipped, and never marked
    with pytest.raises(run_notebooks.CellExecutionError, match="ZeroDivisionError"):
        run_notebooks.run(path, [])


def test_figures_are_saved_with_few_colours_where_that_is_not_seen():
    def png(levels):
        PIL.Image.fromarray(levels).save(file := io.BytesIO(), "PNG")
        return base64.b64encode(file.getvalue()).decode()
    dice = np.random.default_rng(0)
    ramp = np.linspace(0, 240, 120).astype(np.uint8)[None, :, None]
    chart = ramp + dice.integers(0, 6, (80, 120, 3), np.uint8)                    # hundreds of greys, nearly
    less = run_notebooks.few_colours(png(chart))
    seen = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(less))).convert("RGB"))
    assert len(less) < len(png(chart)) and np.abs(np.int16(seen) - np.int16(chart)).max() <= 24
    noise = png(dice.integers(0, 256, (80, 120, 3), np.uint8))
    assert run_notebooks.few_colours(noise) == noise                              # all colours at once: as it was


def test_outputs_that_are_older_than_their_code_are_named(tmp_path):
    shown = new_output("stream", text="2")
    cell, silent = new_code_cell("#| echo: false\n\nprint(1 + 1)", outputs=[shown], id="sum"), new_code_cell("x = 1")
    path = tmp_path / "a.ipynb"
    write(path, new_markdown_cell(HEAD), cell, silent, outputs_of={"sum": run_notebooks.fingerprint(cell)})
    assert list(check_notebooks.check_runs(path)) == []
    cell.source = cell.source.replace("echo: false", "hide")                      # a directive makes no other output
    write(path, new_markdown_cell(HEAD), cell, silent, outputs_of={"sum": run_notebooks.fingerprint(cell)})
    assert list(check_notebooks.check_runs(path)) == []
    old = {"sum": run_notebooks.fingerprint(cell)}
    cell.source = cell.source.replace("1 + 1", "1 + 2")
    for marks in (old, {}):
        line, = check_notebooks.check_runs(write(path, new_markdown_cell(HEAD), cell, silent, outputs_of=marks))
        assert "older than their code, in sum" in line


def test_a_notebook_is_equipped_once_for_colab():
    path = anywhere.ROOT / "nbs" / "world" / "99_new.ipynb"
    cells = [new_markdown_cell(HEAD), new_code_cell("#| default_exp world.new"), new_markdown_cell("Opening")]
    notebook = new_notebook(cells=cells)
    assert len(anywhere.equip(notebook, path)) == 2 and anywhere.equip(notebook, path) == []
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code", "markdown"]
    assert "(../colab.svg)" in cells[3].source and "/blob/main/nbs/world/99_new.ipynb)" in cells[3].source
    ran = []
    shell = type("Shell", (), {"system": lambda self, line: ran.append(line),
                               "run_line_magic": lambda self, *line: ran.append(" ".join(line))})
    exec(notebook.cells[2].source, {"get_ipython": shell})
    assert ran == []
    shell.__str__ = lambda self: "<google.colab._shell.Shell object>"
    exec(notebook.cells[2].source, {"get_ipython": shell})
    assert len(ran) == 3 and ran[2] == "cd -q vasa-ref/nbs/world"


def test_a_page_is_finished(tmp_path):
    png = {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}
    doc = new_output("display_data", data={"text/markdown": "[source](https://x/vasa_ref/other.py#L3)\n\n### f\n\n"
                                           "```python\n\ndef f()\n\n```\n\n*Says.*"})
    link = f"[`f`]({check_site.site()}other.html#f.g)"
    cells = [new_markdown_cell(f"## Rows\n\nFirst [{link}], [{link}](y.ipynb).\n\nThe *error* falls with steps:"),
             new_code_cell("plot()", outputs=[new_output("display_data", data=png)]),
             new_code_cell('#| fig-alt: "Mine."\nplot()', outputs=[new_output("display_data", data=png)]),
             new_code_cell("#| echo: false\nshow_doc(f)", outputs=[doc]),
             new_code_cell('#| code-summary: "Exported source"\ndef f():\n    "Says."')]
    path = write(tmp_path / "a.ipynb", *cells)
    check_site.finish(path, path)
    done = nbformat.read(path, 4).cells
    assert done[1].source.startswith('#| fig-alt: "Rows. The error falls with steps"\nplot()')
    assert f"First [`f`]({check_site.site()}other.html#f), [`f`](y.ipynb)." in done[0].source
    assert done[2].source.count("fig-alt") == 1
    assert done[3].outputs[0].data["text/markdown"].endswith("### f\n")


def test_readme_of_a_notebook():
    prose = HEAD + ('\n\n::: {.callout-note title="Differs from the paper"}\nSmaller.\n:::\n\n'
                    '![a head](images/head.png){width=50%} and [the tour](00_tour.ipynb), '
                    '[a site](https://example.org)')
    picture = new_output("display_data", data={"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
    text, pictures = readme.readme(new_notebook(cells=[
        new_markdown_cell(prose), new_code_cell("#| hide\nsecret = 1"),
        new_code_cell("#| echo: false\nplot()", outputs=[picture]),
        new_code_cell('#| fig-alt: "A line that rises"\n#| echo: false\nplot()', outputs=[picture]),
        new_code_cell("1 + 1", outputs=[new_output("execute_result", data={"text/plain": "2"})])]))
    assert "> [!NOTE]\n> **Differs from the paper**\n>\n> Smaller." in text and ":::" not in text
    assert "![a head](nbs/images/head.png) and [the tour](nbs/00_tour.ipynb), [a site](https://example.org)" in text
    assert "secret" not in text and "plot()" not in text
    assert "```python\n1 + 1\n```\n\n```\n2\n```" in text
    assert pictures == dict.fromkeys(["cell-2-0.png", "cell-3-1.png"], b"\x89PNG\r\n\x1a\n")
    assert "![](index_files/cell-2-0.png)" in text and "![A line that rises](index_files/cell-3-1.png)" in text


def test_a_page_is_read():
    text = ("# Title {#sec-a}\n\nSee @sec-a and @fig-none, [x](nowhere.ipynb) ![p](no.png) $\\frac{a}{b$\n\n"
            "::: {.callout-note}\nopen\n\n$$ x^2 $$ {#eq-one}\n")
    anchors, links, pictures, cited, warnings = check_site.read(text, {"fig-cell"})
    assert anchors >= {"sec-a", "eq-one", "fig-cell"} and cited - anchors == {"fig-none"}
    assert links == ["nowhere.ipynb"] and pictures == ["no.png"]
    assert any("unclosed" in w for w in warnings) and any("TeX" in w for w in warnings)


def test_world_speed_prints_and_writes_its_figures(tmp_path, capsys):
    threads, out = torch.get_num_threads(), tmp_path / "speed.json"
    world_speed.main(["--sizes", "32", "--frames", "2", "--repeats", "1", "--threads", "1", "--json", str(out)])
    torch.set_num_threads(threads)
    figures = json.loads(out.read_text())
    assert figures.keys() == {"threads", "person_s", "fps_32"} and figures["fps_32"] > 0
    assert f"fps_32     {figures['fps_32']}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no folder"): world_speed.main(["--json", str(tmp_path / "no" / "a.json")])


def test_start_time_prints_each_step_and_their_sum(capsys, monkeypatch):
    runs = iter([[[1.0, 0.5], [0.2, 0.1], [0.4, 0.3]], [[3.0, 0.6], [0.2, 0.1], [0.4, 0.3]],
                 [[1.5, 0.4], [0.3, 0.1], [0.4, 0.2]]])
    monkeypatch.setattr(start_time, "start", lambda weights: next(runs))
    start_time.main(["--repeats", "3"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert [line[:44].strip() for line in lines] == [*start_time.STEPS[:2], "Talker.from_pretrained('laptop')", "all"]
    assert [line[44:].split()[::2]
            for line in lines] == [["1.50", "0.50"], ["0.20", "0.10"], ["0.40", "0.30"], ["2.20", "0.90"]]


def test_a_start_is_timed_in_a_fresh_process_and_a_failure_is_one_line():
    times = start_time.start("laptop")
    assert len(times) == 3 and all(wall > 0 and processor > 0 for wall, processor in times)
    with pytest.raises(SystemExit, match="start_time: .*no/such"): start_time.start("no/such")


def test_a_module_imports_what_stands_outside_of_functions():
    texts = {"units": "", "face.networks": "from ..units import FPS\nfrom . import losses\nimport torch",
             "face.losses": "from vasa_ref.units import FPS\ndef f():\n    from .networks import Face",
             "talking.talker": "if True:\n    from ..face.networks import Face\nfrom . import nothing",
             "world": "from .units import FPS"}
    edges = import_graph.graph(texts)
    assert edges == {"units": set(), "face.networks": {"units", "face.losses"}, "face.losses": {"units"},
                     "talking.talker": {"face.networks"}, "world": {"units"}}
    assert import_graph.reached(edges, "talking.talker") == set(texts) - {"world"}
    rows = [row for _, row in import_graph.by_depth(edges)]
    assert rows == [["units"], ["face.losses", "world"], ["face.networks"], ["talking.talker"]]
    assert import_graph.by_room(edges) == [("", ["units", "world"]), ("face", ["face.losses", "face.networks"]),
                                           ("talking", ["talking.talker"])]
    drawn = import_graph.picture({"units": set(), "talker": {"units"}, "cli": set()}, edges)
    assert "before: 3 modules; Talker loads 2 of them" in drawn
    assert "now: 5 modules; Talker loads 4 of them" in drawn
