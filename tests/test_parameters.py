"""What the site says of a function: a table of parameters, and no heading where a few lines of source say it all."""
import importlib
import inspect
import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import check_site
import parameters

ENTRIES = """
talking.offline Reenactor.encode, Reenactor.read, SpeechToMotion.performance, SpeechToMotion.perform
talking.offline SpeechToMotion.motion, TalkerModels.from_pretrained, TalkerModels.random
talking.offline OfflineTalker.animate, OfflineTalker.animate_to_file, OfflineTalker.still
talking.talker Talker.stream, Talker.delay
talking.directing motion_controls
talking.adapt adapt
world.voice say
world.clips make_clip, make_clips
world.people person
world.picture render
world.frames Pool.make
media.clips save_video
hearing.spectra log_mel
hearing.features audio_features
hearing.training train_audio
face.plain_training train_face
motion.diffusion sampling, sample
motion.sampling generate_motion
motion.training train_motion
motion.distillation distil_motion
speed.latency latency
footage.clips make_clips
trust.credentials inspect
trust.watermark read_mark
trust.detector detect
training Run, Recipe
"""
LISTED = [(module, name) for line in ENTRIES.strip().splitlines() for module, _, names in [line.partition(" ")]
          for name in names.split(", ")]


def entry_of(module, name):
    found, _, method = name.partition(".")
    entry = parameters.entries(check_site.ROOT / "vasa_ref" / f"{module.replace('.', '/')}.py")[found]
    return next(m for m in entry.methods if m.name == name) if method else entry


@pytest.mark.parametrize("module, name", LISTED)
def test_an_entry_point_says_what_each_parameter_is(module, name):
    rows = entry_of(module, name).rows
    thing = importlib.import_module(f"vasa_ref.{module}")
    for part in name.split("."): thing = getattr(thing, part)
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    wanted = {stars.get(p.kind, "") + p.name: p for p in inspect.signature(thing).parameters.values()
              if p.name != "self"}
    assert [row.name for row in rows] == list(wanted)
    assert not [row.name for row in rows if not row.text]
    for row in rows:
        default = wanted[row.name].default
        assert (row.default is None) == (default is inspect.Parameter.empty), row
        if isinstance(default, (bool, int, float, str)): assert row.default == repr(default) or (
            float(row.default) == default), row


@pytest.mark.parametrize("module, name", LISTED)
def test_a_table_comes_out_of_pandoc_whole(module, name):
    rows = entry_of(module, name).rows
    tree = json.loads(check_site.pandoc(parameters.table(rows), "json")[0])["blocks"]
    assert [block["t"] for block in tree] == ["Table"], "one table and nothing else"
    words = lambda node: "".join({"Space": " ", "SoftBreak": " "}.get(t) or (c[1] if t == "Code" else c)
                                 for t, c in check_site.walk(node) if t in ("Str", "Code", "Space", "SoftBreak"))
    _, _, _, (_, head), ((_, _, _, body),), _ = tree[0]["c"]
    titles, *lines = ([words(cell[4]) for cell in row[1]] for row in [*head, *body])
    assert titles[0] == "Parameter" and titles[-1] == "What it is"
    assert [line[0] for line in lines] == [row.name for row in rows]
    for line, row in zip(lines, rows):
        cells = dict(zip(titles, line))
        assert "|" not in "".join(line)
        assert cells.get("Default", "") == (row.default or "")
        assert cells.get("Type", "").replace(" or ", " | ") == row.type.strip("'")
        assert re.sub(r"\W", "", cells["What it is"]) == re.sub(r"\W", "", row.text), "quotes aside"


def test_comments_belong_to_their_parameter(tmp_path):
    (path := tmp_path / "m.py").write_text('''
STEPS = 3

def plain(a, b):   # of a line with two parameters nobody knows which it describes
    return a

# of what is before
def told(
    a: int | None,   # first | last
    # over
    # two lines
    *rest,
    b: "str" = STEPS,
    **more,          # others
) -> int:
    "Says."

class Pair:
    x: int        # one
    y: int = 2
    def move(
        self,
        by: float = 0.5,   # px
    ): ...
''')
    found = parameters.entries(path)
    assert found["plain"].rows == ()
    rows = found["told"].rows
    assert [row.text for row in rows] == ["first | last", "over two lines", "", "others"]
    assert [row.name for row in rows] == ["a", "*rest", "b", "**more"]
    assert rows[2].default == "STEPS" and rows[0].type == "int | None"
    lines = parameters.table(rows).splitlines()
    assert lines[2] == r"| `a` | `int` or `None` |  | first \| last |" and "| `b` | `str` | `STEPS` |" in lines[4]
    pair = found["Pair"]
    assert [(row.name, row.default) for row in pair.rows] == [("x", None), ("y", "2")]
    assert [method.name for method in pair.methods] == ["Pair.move"] and pair.methods[0].rows[0].text == "px"
    assert parameters.signature(found["told"].node) == (
        "```python\ndef told(a: int | None, *rest, b: 'str' = STEPS, **more) -> int:\n```")


HEAD = '---\n\n[source](https://x/vasa_ref/m.py#L1){target="_blank"}\n\n### NAME\n\n'
DOC = HEAD + "```python\n\ndef NAME(\n    x:int, # px\n):\n\n\n```\n\n*Says one and*\ntwo."


def test_short_functions_and_tables_on_a_page(tmp_path):
    (path := tmp_path / "m.py").write_text('''
def short(x): return x

def long(x):
    "Says one and\\ntwo."
    x += 1
    x += 1
    x += 1
    x += 1
    return x

def told(
    x: int,   # px
): return x

class Kept:
    x: int   # px
''')
    found = parameters.entries(path)
    of = lambda name, shown: parameters.reference(DOC.replace("NAME", name), found[name], shown)
    anchor = of("short", True)
    assert "[**short**]{#short}" in anchor and "#\n" not in anchor and "### " not in anchor and "---" not in anchor
    assert check_site.read(anchor, set())[0] >= {"short"}, "links to it go on working"
    assert of("short", False).count("### short") == 1 and "```python" in of("short", False)
    assert of("long", True) == HEAD.replace("NAME", "long").rstrip() + "\n"
    shown, hidden = of("told", True), of("told", False)
    row = "| `x` | `int` | px |"
    assert "### told" in shown and row in shown and "```python" not in shown and "Says" not in shown
    assert row in hidden and "def told(x: int):" in hidden and "# px" not in hidden
    assert "\n\nSays one and\ntwo.\n\n| Parameter" in hidden, "nothing stands in italics up to the end of a line"
    assert "| Field" in of("Kept", False) and "def Kept" not in of("Kept", False)
    assert "|" not in of("Kept", True).partition("### ")[2], "the source shows its fields"


def test_several_definitions_of_a_cell_stand_before_it(tmp_path):
    doc = lambda name: new_code_cell(f"#| echo: false\nshow_doc({name})", outputs=[
        new_output("display_data", data={"text/markdown": DOC.replace("NAME", name)})])
    source = new_code_cell('#| code-summary: "Exported source"\ndef f(x): return x\n\n\nclass G: pass')
    cells = [doc("G"), source, doc("f"), doc("other")]
    nbformat.write(new_notebook(cells=cells), path := tmp_path / "a.ipynb")
    check_site.finish(path, path)
    done = nbformat.read(path, 4).cells
    assert [c.source.splitlines()[-1] for c in done] == [
        "show_doc(f)", "show_doc(G)", "class G: pass", "show_doc(other)"]
    said = [c.outputs[0].data["text/markdown"] for c in done if c.outputs]
    assert ["```python" in text for text in said] == [False, False, True]


def test_links_to_methods_with_tables_stay():
    site = check_site.site()
    link = lambda anchor: f"[`x`]({site}talking/offline.html#{anchor})"
    assert check_site.links_mended(link("offlinetalker.animate")) == link("offlinetalker.animate")
    assert check_site.links_mended(link("offlinetalker.film")) == link("offlinetalker"), "no table, so no anchor"


def test_a_talker_lists_what_it_inherits():
    talker = parameters.everything()["Talker"][1]
    text = parameters.reference("### Talker\n", talker, True, site="https://s/")
    assert "#### Talker.stream {#talker.stream}" in text
    assert "[`animate`](https://s/talking/offline.html#offlinetalker.animate)" in text.splitlines()[-1]
    row = next(line for line in text.splitlines() if line.startswith("| `pose`"))
    assert "offline.html#speechtomotion.perform" in row, "a class's own names come before others of the same name"
