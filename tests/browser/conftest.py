"""A browser, and the site's pages as they come out of nbdev, as HTML. `make browser` installs what this needs."""
import html
import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import check_site
import slides

playwright = pytest.importorskip("playwright.sync_api", reason="`make browser` installs Playwright")
KINDS = "chromium", "chromium-browser", "google-chrome"
# what Quarto's theme brings and styles.css relies on; the rest of a page's looks is nbs/styles.css
THEME = ("body { margin: 0 auto; max-width: 800px; padding: 0 12px; font: 17px/1.5 sans-serif; } "
         "pre { overflow: auto; font-size: 0.875em; } code { overflow-wrap: break-word; } h1, h2, h3 { overflow-wrap: break-word; } "
         "img { vertical-align: middle; }")


@pytest.fixture(scope="session")
def browser():
    """Chromium: the one that CHROMIUM names, or of this machine, or Playwright's."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, KINDS)), None)
    sandbox = [] if getattr(os, "geteuid", lambda: 1)() else ["--no-sandbox"]
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=found,
                                    args=["--autoplay-policy=no-user-gesture-required", *sandbox])
        yield started
        started.close()


@pytest.fixture
def tab(browser):
    """tab(file or address, width, height, **options) opens a page; what it complains of fails the test at its end."""
    said, opened = [], []

    def open_tab(where, width=1280, height=720, **options):
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        opened.append(page)
        page.on("console", lambda message: message.type == "error" and said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(f"not found: {request.url[:200]}"))
        page.goto(where.as_uri() if isinstance(where, Path) else where)
        return page

    yield open_tab
    for page in opened: page.close()
    assert not said


def output_html(output):
    """One output as Quarto's page shows it; markdown stays markdown between blank lines."""
    data = output.get("data", {})
    text = lambda kind: "".join(data[kind])
    picture = next((kind for kind in data if kind.startswith("image/")), None)
    if output.output_type == "stream": return f"<pre><code>{html.escape(''.join(output.text))}</code></pre>"
    if "text/html" in data: return f"\n```{{=html}}\n{text('text/html')}\n```\n"
    if "text/markdown" in data: return "\n" + text("text/markdown") + "\n"
    if picture == "image/svg+xml": return f"\n```{{=html}}\n{text(picture)}\n```\n"
    if picture: return f'<img class="figure-img" alt="figure" src="data:{picture};base64,{text(picture).strip()}">'
    return f"<pre><code>{html.escape(text('text/plain'))}</code></pre>" if "text/plain" in data else ""


def page_html(path):
    """A processed notebook as a page with the site's own style."""
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        if not re.search(r"^#\| *echo: *false", cell.source, re.MULTILINE):
            source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.MULTILINE)
            parts.append(f"~~~~~~~~ {{.python .sourceCode}}\n{source}\n~~~~~~~~")
        shown = [output_html(output) for output in cell.get("outputs", [])]
        parts += [f'<div class="cell-output">\n{one}\n</div>' for one in shown if one]
    body, _ = check_site.pandoc("\n\n".join(parts), "html", "--mathml", "--no-highlight", "--wrap=none")
    style = (ROOT / "nbs" / "styles.css").read_text()
    return (f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{path.stem}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{THEME}{style}</style></head><body><main>{body}</main></body></html>")


@pytest.fixture(scope="session")
def site():
    """The folder of the processed notebooks, with an HTML file beside each; made anew where a source is newer."""
    done, sources = ROOT / "_proc" / "opened", [*(ROOT / "nbs").rglob("*"), *(ROOT / "vasa_ref").rglob("*.py")]
    newest = max(path.stat().st_mtime for path in sources if "_modidx" not in path.name and path.is_file())
    if not done.exists() or done.stat().st_mtime < newest:
        check_site.build()
        done.touch()
    for path in sorted((ROOT / "_proc").rglob("*.ipynb")): path.with_suffix(".html").write_text(page_html(path))
    return ROOT / "_proc"


@pytest.fixture(scope="session")
def decks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    slides.main([str(folder)])
    return sorted(folder.glob("*.html"))
