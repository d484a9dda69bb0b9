"""Slides are made of the chapters' own titles, formulas, pictures and summaries, and need nothing beside them."""
import base64
import io
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import slides

PLAN = ROOT / "nbs" / "course" / "plan.ipynb"


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    assert slides.main([str(folder)]) == 0
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def text_of(page):
    "A page without what its pictures, sounds, scripts and styles hold."
    page = re.sub(r"base64,[^\"]*", "", page)
    return re.sub(r"<(script|style|annotation)\b.*?</\1>", "", page, flags=re.DOTALL)


def test_each_week_of_the_plan_has_a_deck_of_its_chapters(decks):
    weeks = slides.weeks(PLAN)
    assert list(decks) == [f"week-{n}.html" for n in range(1, len(weeks) + 1)] and len(weeks) == 6
    for (question, names), page in zip(weeks, decks.values(), strict=True):
        page = page.replace("’", "'")                                                   # of pandoc
        assert f"{slides.plain(question)}</title>" in page
        for name in names:
            title = nbformat.read(ROOT / "nbs" / f"{name}.ipynb", 4).cells[0].source.splitlines()[0].removeprefix("# ")
            assert re.search(rf'<section class="title[^>]*><h1>{re.escape(title)}</h1>', page), name
            assert f">{title}: in short</h2>" in page, name


def test_a_deck_needs_nothing_beside_it_and_is_small(decks):
    for page in decks.values():
        assert len(page.encode()) < 3_000_000
        assert not re.findall(r'\b(?:src|href)="(?!data:|https?:)[^"]*"', page), "a file beside it, or a link to one"
        assert not re.findall(r'<(?:img|audio|script|link|iframe)\b[^>]*\b(?:src|href)="http', page), "the network"
        assert page.count("<script") == 1 and "{{title}}" not in page and "{{slides}}" not in page


def test_formulas_are_mathml_and_no_dollar_is_left(decks):
    for (_, names), page in zip(slides.weeks(PLAN), decks.values(), strict=True):
        assert "$" not in text_of(page)
        prose = ["\n".join(c.source for c in nbformat.read(ROOT / "nbs" / f"{name}.ipynb", 4).cells
                           if c.cell_type == "markdown").partition("## In short")[0] for name in names]
        formulas = sum(len(re.findall(r"^\$\$.*?\$\$", one, re.MULTILINE | re.DOTALL)) for one in prose)
        assert formulas > 3 and page.count('<math display="block"') >= formulas


def test_every_picture_has_an_alt_text_and_is_not_wider_than_a_slide(decks):
    for page in decks.values():
        pictures = re.findall(r'<img src="data:image/([a-z+]+);base64,([^"]+)" alt="([^"]*)"', page)
        assert len(pictures) == page.count("<img") > 20
        assert all(alt.strip() and "$" not in alt for *_, alt in pictures)
        kept = [Image.open(io.BytesIO(base64.b64decode(data))) for kind, data, _ in pictures[:40] if kind == "webp"]
        assert max(image.width for image in kept) <= slides.WIDEST


def test_slides_are_numbered_and_hold_questions_without_answers(decks):
    page = decks["week-5.html"]
    count = page.count("<section")
    numbers = re.findall(r"<span>(\d+) / (\d+)</span>", page)
    assert numbers == [(str(i + 1), str(count)) for i in range(count)]
    assert "The loss of a perfect denoiser is 0.68 here." in text_of(page)
    assert "At large t nobody can know" not in page and "def ddpm_by_ddim" not in page


PNG = io.BytesIO()
Image.new("RGB", (2000, 100), "red").save(PNG, "png")
PNG = base64.b64encode(PNG.getvalue()).decode()
TWIN = '<div data-labels="[]"><img src="data:image/webp;base64,AAAA" alt="x: 1"></div>'


def drawn(source, data=None, **metadata):
    output = new_output("display_data", data=data or {"image/png": PNG})
    return new_code_cell(source, outputs=[output], metadata=metadata)


def write(path, *cells):
    head = [new_markdown_cell("# The title\n\n> What it is."), new_markdown_cell(
        "### In this chapter\n\n*You will be able to* say one; and do two.\n\n*Before it:* nothing.")]
    nbformat.write(new_notebook(cells=[*head, *cells]), path)
    return path


def made(tmp_path, *cells):
    return slides.chapter(write(tmp_path / "a.ipynb", *cells))


def test_a_chapter_becomes_slides_in_its_order(tmp_path):
    found = made(
        tmp_path, new_markdown_cell("## A part {#sec-a}\n\nSome words. Hence\n\n$$x^2$$ {#eq-x}\n\nAnd a picture:"),
        drawn("plot()"), drawn('#| fig-alt: "A red bar."\nplot()'), drawn("slider()", {"text/html": TWIN}),
        new_markdown_cell('::: {.callout-note title="Differs from the paper"}\nOurs is red.\n:::'),
        new_markdown_cell("## In short\n\n- One.\n- Two."),
        new_markdown_cell("## Questions\n\n<details><summary>1. Why?</summary>\n\nSo.\n</details>\n\n## Exercise 1: x"),
        drawn("solved()"))
    assert [slide.title for slide in found] == [
        "The title", "You will be able to", *["A part"] * 4, "A part: differs from the paper", "The title: in short",
        "Questions"]
    aims, formula, plain, named, twin, differs, short, asked = found[1:]
    assert aims.above == "- say one\n- do two." and formula.above == "Some words. Hence\n\n$$x^2$$"
    assert plain.below == "And a picture:" and 'alt="And a picture:"' in plain.block
    assert named.below == "A red bar." and 'alt="A red bar."' in named.block
    assert twin.block == TWIN and differs.above == "Ours is red." and short.above == "- One.\n- Two."
    assert asked.above == "1. Why?"
    width, height = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", plain.block)[1]))).size
    assert width == slides.WIDEST and height == slides.WIDEST // 20


@pytest.mark.parametrize("cell", [drawn("plot()", slideshow={"slide_type": "skip"}), drawn("#| hide\nplot()"),
                                  new_markdown_cell("$$x$$", metadata={"slideshow": {"slide_type": "skip"}})])
def test_a_marked_or_hidden_cell_makes_no_slide(tmp_path, cell):
    assert len(made(tmp_path, cell)) == 2


def test_captions_are_whole_sentences_and_links_within_the_course_are_text():
    long = "A first sentence of some length. " * 20
    assert slides.lead(long) == " ".join(["A first sentence of some length."] * 7)
    assert slides.lead("One. " * 100 + "The last $x$:", from_end=True).endswith("One. The last $x$:")
    inside, outside = slides.rendered(["[a *chapter*](../a/b.ipynb#c), [`name`]", "[x](https://a.org)"])
    assert " ".join(inside.split()) == "<p>a <em>chapter</em>, <code>name</code></p>"
    assert 'href="https://a.org"' in outside
    assert slides.plain("## [a](b.ipynb) is $\\hat x_0$ and `c`") == "a is x_0 and c"


def test_what_cannot_be_is_refused(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="no week 7: accepted are 1 to 6"): slides.main([str(tmp_path), "--weeks", "7"])
    with pytest.raises(SystemExit, match="slides: .*TeX"): slides.rendered(["$\\frac{a}{b$"])
    monkeypatch.setattr(slides, "LIMIT", 1000)
    with pytest.raises(SystemExit, match="week 5 has .* MB"): slides.main([str(tmp_path), "--weeks", "5"])
    assert list(tmp_path.iterdir()) == []
