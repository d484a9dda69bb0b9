"""Write slides for each week of the course, from the chapters themselves.

    python tools/slides.py [FOLDER] [--weeks N ...]

FOLDER (default: _slides/) gets a page `week-N.html` for each week of the plan (nbs/course/plan.ipynb). A page needs
nothing beside it, no network either: open it in a browser, move by arrows, space or a click, print it for a PDF with
one slide a page. All that stands on slides is read from the chapters: title and aims, each formula with the paragraph
before it, each saved picture and slider with the prose that leads to it, deviations from the paper, 'In short', and
the questions without their answers. A cell that should not become a slide is marked as Jupyter marks it, slide type
*Skip* ({"slideshow": {"slide_type": "skip"}} in its metadata). Pictures are kept at the best of three qualities
with which a page stays below 3 MB; where none does, it is refused.
"""
import argparse
import ast
import base64
import html
import io
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
from check_site import pandoc

ROOT = Path(__file__).resolve().parents[1]
LIMIT, WIDEST, CAPTION, QUALITIES = 3_000_000, 1080, 260, (64, 45, 30)      # bytes, pixels, letters, of WebP
HERE = Path(__file__).parent
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPECIAL = re.compile(r"(^:::+ *\{.*?^:::+ *$|^\$\$.*?\$\$(?: *\{#[^}]*\})?|^#+ [^\n]*$)", re.MULTILINE | re.DOTALL)
CALLOUT = re.compile(r'^:::+ *\{[^}\n]*?title="([^"]*)"[^}\n]*\}\n(.*)\n:::+ *$', re.DOTALL)
ASIDE = "In short", "Questions", "Exercise"                     # sections whose cells make no slides of their own
CUT = "<!-- next -->"


class Slide(NamedTuple):
    """A title, and below it text as markdown, a block of HTML, text again (a caption)."""
    title: str
    above: str = ""
    block: str = ""
    below: str = ""
    kind: str = ""


def weeks(plan: Path) -> list[tuple[str, list[str]]]:
    """(question, chapters) of each week, as the plan has them: the core, then what is to choose."""
    cells = nbformat.read(plan, as_version=4).cells
    source = next(cell.source for cell in cells if cell.source.startswith("WEEKS = "))
    listed = ast.literal_eval(ast.parse(source).body[0].value)
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    questions = re.findall(r"^\| \d+ \| (.*?) \|", prose, re.MULTILINE)
    assert len(questions) == len(listed), "the plan has a question for each week"
    return [(question, " ".join(names).split()) for question, names in zip(questions, listed)]


def sentences(text: str) -> list[str]:
    "A paragraph, cut behind each of its sentences."
    return re.split(r"(?<=[.?!])\s+(?=[A-Z*`$“])", " ".join(text.split()))


def lead(paragraph: str, from_end: bool = False) -> str:
    "As many whole sentences of a paragraph as fit a caption, at least one; from its end where it leads to a formula."
    kept = []
    for sentence in sentences(paragraph)[::-1 if from_end else 1]:
        if kept and len(" ".join([*kept, sentence])) > CAPTION: break
        kept.insert(0, sentence) if from_end else kept.append(sentence)
    return " ".join(kept)


def plain(markdown: str) -> str:
    "Markdown as text without marks, for an alt text or a page's title."
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    return re.sub(r"\\[a-zA-Z]+\s?|[\\$*`{}]|^#+ ", "", " ".join(text.split()))


def webp(picture: bytes, alt: str, quality: int) -> str:
    "An <img> that holds a saved picture, not wider than a slide."
    from PIL import Image
    image, stream = Image.open(io.BytesIO(picture)), io.BytesIO()
    image = image.convert("RGBA" if image.mode in ("RGBA", "LA", "P") else "RGB")
    if image.width > WIDEST: image = image.resize((WIDEST, round(image.height * WIDEST / image.width)))
    image.save(stream, "webp", quality=quality)
    return embed(stream.getvalue(), "image/webp", alt)


def embed(data: bytes, kind: str, alt: str) -> str:
    return f'<img src="data:{kind};base64,{base64.b64encode(data).decode()}" alt="{html.escape(alt, quote=True)}">'


def skipped(cell) -> bool:
    "Is a cell marked as no slide, or hidden from the site?"
    marked = cell.metadata.get("slideshow", {}).get("slide_type") == "skip"
    return marked or bool(re.search(r"^#\| *(hide|output: *false|include: *false)\b", cell.source, re.MULTILINE))


def pictures(cell, title: str, caption: str, quality: int):
    "A slide for each saved picture and slider of a code cell."
    written = re.search(r'^#\| *fig-(?:alt|cap): *"?(.*?)"?$', cell.source, re.MULTILINE)
    caption = written[1] if written else caption
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        kind = next((k for k in ("image/png", "image/jpeg", "image/webp") if k in data), None)
        if kind:
            picture = webp(base64.b64decode(data[kind]), plain(caption or title), quality)
            yield Slide(title, "", picture, caption, "picture")
        elif "<div data-labels" in data.get("text/html", ""):
            yield Slide(title, "", data["text/html"], caption, "twin")


def chapter(path: Path, quality: int = QUALITIES[0]) -> list[Slide]:
    """The slides of a chapter, its title first."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if not skipped(c)]
    prose = "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
    title, about = re.search(r"^# (.*)\n\n> (.*)", prose).groups()
    drawn = re.search(r"^!\[(.*?)\]\((\S+\.svg)\)", prose, re.MULTILINE)
    picture = embed((path.parent / drawn[2]).read_bytes(), "image/svg+xml", drawn[1]) if drawn else ""
    able = re.search(r"\*You will be able to\* (.*?)\n\n", prose, re.DOTALL)
    aims = "\n".join(f"- {one}" for one in re.split(r";\s+(?:and )?", able[1])) if able else ""
    slides = [Slide(title, about, picture, kind="title"), Slide("You will be able to", aims)]
    heading, before, section = title, "", ""
    for cell in cells[1:]:
        if cell.cell_type == "code":
            if not section: slides += pictures(cell, heading, lead(before), quality)
            if cell.get("outputs"): before = ""
            continue
        for block in SPECIAL.split(FENCED.sub("", re.sub(r"<details>.*?</details>", "", cell.source, flags=re.DOTALL))):
            if block.startswith("#"):
                heading = re.sub(r" *\{[#.][^}]*\}$", "", block.lstrip("# ")).strip()
                if not block.startswith("###"): section = next((s for s in ASIDE if heading.startswith(s)), "")
                before = ""
            elif section: continue
            elif block.startswith("$$"):
                slides.append(Slide(heading, lead(before, from_end=True) + "\n\n" + block.split(" {#")[0]))
            elif note := CALLOUT.match(block):
                slides.append(Slide(f"{heading}: {note[1][0].lower()}{note[1][1:]}", note[2]))
            elif paragraphs := [p for p in re.split(r"\n\s*\n", block.strip()) if re.match(r"[^|>!<:\s-]", p)]:
                before = paragraphs[-1]
    section = lambda name: re.search(rf"^## {name} *$(.*?)(?=^## |\Z)", prose, re.MULTILINE | re.DOTALL)
    if short := section("In short"): slides.append(Slide(f"{title}: in short", short[1].strip()))
    asked = re.findall(r"<summary>(?:\d+\. )?(.*?)</summary>", questions[1], re.DOTALL) if (
        questions := section("Questions")) else []
    if asked: slides.append(Slide("Questions", "\n".join(f"1. {' '.join(one.split())}" for one in asked)))
    return slides


def rendered(texts: list[str]) -> list[str]:
    "Markdown to HTML with formulas as MathML, links within the course as text."
    texts = [re.sub(r"\[(`[^`\]]+`)\](?!\()", r"\1", text) for text in texts]
    out, warnings = pandoc(f"\n\n{CUT}\n\n".join(texts), "html", "--mathml")
    if wrong := [w for w in warnings if "TeX" in w]: raise SystemExit("slides: " + "; ".join(wrong))
    out = re.sub(r'<a\b[^>]*href="(?!https?:)[^"]*"[^>]*>(.*?)</a>', r"\1", out, flags=re.DOTALL)
    parts = out.split(CUT)
    assert len(parts) == len(texts), "a slide's text is not closed"
    return [part.strip() for part in parts]


def deck(name: str, question: str, chapters: list[Path], quality: int = QUALITIES[0]) -> str:
    "A page of slides."
    of = [(slides[0].title, slides) for slides in (chapter(path, quality) for path in chapters)]
    first = Slide(f"{name}. {question}", "\n".join(f"1. {title}" for title, _ in of), kind="cover")
    listed = [(name, first), *((title, slide) for title, slides in of for slide in slides)]
    parts = iter(rendered([text for _, s in listed for text in (s.title, s.above, s.below)]))
    pages = []
    for number, (where, slide) in enumerate(listed, 1):
        title, above, below = next(parts), next(parts), next(parts)
        head = "h1" if slide.kind in ("title", "cover") else "h2"
        title = re.sub(r"^<p>(.*)</p>$|^<h\d[^>]*>(.*)</h\d>$", r"\1\2", title, flags=re.DOTALL)
        figure = f"<figure>{slide.block}{f'<figcaption>{below}</figcaption>' if below else ''}</figure>"
        size = " long" * (len(slide.above) > 420) + " longer" * (len(slide.above) > 700)
        pages.append(f'<section class="{slide.kind}{size}" id="s{number}"><{head}>{title}</{head}>\n'
                     f'<div class="text">{above}</div>{figure if slide.block else ""}\n'
                     f'<footer><span>{html.escape(plain(where))}</span>'
                     f'<span>{number} / {len(listed)}</span></footer></section>')
    page = (HERE / "slides.html").read_text()
    return page.replace("{{title}}", html.escape(plain(first.title))).replace("{{slides}}", "\n".join(pages))


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "_slides", metavar="FOLDER")
    parser.add_argument("--weeks", type=int, nargs="+", metavar="N", help="these only")
    args = parser.parse_args(args)
    planned = weeks(ROOT / "nbs" / "course" / "plan.ipynb")
    chosen = args.weeks or range(1, len(planned) + 1)
    if unknown := [n for n in chosen if not 1 <= n <= len(planned)]:
        raise SystemExit(f"slides: no week {unknown[0]}: accepted are 1 to {len(planned)}")
    args.folder.mkdir(parents=True, exist_ok=True)
    for number in chosen:
        question, names = planned[number - 1]
        chapters = [ROOT / "nbs" / f"{name}.ipynb" for name in names]
        for quality in QUALITIES:
            page = deck(f"Week {number}", question, chapters, quality).encode()
            if len(page) < LIMIT: break
        else: raise SystemExit(f"slides: week {number} has {len(page) / 1e6:.1f} MB: skip some cells")
        target = args.folder / f"week-{number}.html"
        target.with_suffix(".part").write_bytes(page)
        os.replace(target.with_suffix(".part"), target)
        print(f"{target}: {page.count(b'<section')} slides, {len(page) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
