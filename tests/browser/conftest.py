"""A browser, and the site's pages as they come out of nbdev, as HTML. `make browser` installs what this needs."""
import html
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import check_site
import slides

playwright = pytest.importorskip("playwright.sync_api", reason="`make browser` installs Playwright")
FAKE = "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"      # a microphone that beeps, and a yes
PICTURE = ROOT / "nbs" / "speaking.webp"                                           # a portrait that may be dropped
KINDS = "chromium", "chromium-browser", "google-chrome"
# what Quarto's theme brings and styles.css relies on; the rest of a page's looks is nbs/styles.css
THEME = ("body { margin: 0 auto; max-width: 800px; padding: 0 12px; font: 17px/1.5 sans-serif; } "
         "pre { overflow: auto; font-size: 0.875em; } code { overflow-wrap: break-word; } "
         "h1, h2, h3 { overflow-wrap: break-word; } img { vertical-align: middle; }")


@pytest.fixture(scope="session")
def browser():
    """Chromium: the one that CHROMIUM names, or of this machine, or Playwright's."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, KINDS)), None)
    sandbox = [] if getattr(os, "geteuid", lambda: 1)() else ["--no-sandbox"]
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=found,
                                    args=["--autoplay-policy=no-user-gesture-required", *FAKE, *sandbox])
        yield started
        started.close()


@contextmanager
def serving(folder, *command):
    """The port at which `python -m command --port=...` answers, with no settings but those of a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
                                                   "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")}
    with open(folder / "log", "w") as log:
        words = [sys.executable, "-m", *map(str, command), "--no-browser", f"--port={port}"]
        server = subprocess.Popen(words, env=os.environ | paths | {"PYTHONPATH": str(ROOT)}, cwd=folder,
                                  stdout=log, stderr=log)
    try:
        for _ in range(240):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0: break
            time.sleep(0.5)
        else: pytest.fail((folder / "log").read_text()[-2000:])
        yield port
    finally:
        server.terminate()
        server.wait(20)


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


def shown(image):
    "What a picture shows, as numbers."
    return image.evaluate("""async image => {
      await image.decode();
      const canvas = Object.assign(document.createElement('canvas'), {width: 64, height: 64});
      const pen = canvas.getContext('2d');
      pen.drawImage(image, 0, 0, 64, 64);
      return [...pen.getImageData(0, 0, 64, 64).data];
    }""")


def drop(page, *paths, beside=0):
    "A drag from outside the browser that ends on the zone, or so many pixels below it."
    page.locator(".vasa-drop").scroll_into_view_if_needed()
    box = page.locator(".vasa-drop").bounding_box()
    down = box["height"] + beside if beside else box["height"] / 2
    where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + down}
    data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
    hand = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        hand.send("Input.dispatchDragEvent", {"type": kind, **where, "data": data})


def output_html(output, alt=""):
    """One output as Quarto's page shows it, a picture with its cell's `fig-alt`; markdown stays markdown."""
    data = {kind: "".join(value) for kind, value in output.get("data", {}).items() if kind[:4] in ("text", "imag")}
    picture = next((kind for kind in data if kind.startswith("image/")), None)
    if output["output_type"] == "stream": return f"<pre><code>{html.escape(''.join(output['text']))}</code></pre>"
    for kind in ("text/html", "image/svg+xml"):
        if kind in data: return data[kind]
    if "text/markdown" in data: return "\n" + data["text/markdown"] + "\n"
    if picture: return f'<img alt="{html.escape(alt)}" src="data:{picture};base64,{data[picture].strip()}">'
    return f"<pre><code>{html.escape(data['text/plain'])}</code></pre>" if "text/plain" in data else ""


def page_html(path):
    """A processed notebook as a page with the site's own style; what is HTML already goes past pandoc."""
    parts, ready = [], []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source)
            continue
        written = re.search(r"^#\| *fig-alt: *(.*)$", source, re.MULTILINE)
        alt = json.loads(written[1]) if written else ""
        if not re.search(r"^#\| *echo: *false", source, re.MULTILINE):
            source = re.sub(r"^#\|.*\n?", "", source, flags=re.MULTILINE)
            parts.append(f"~~~~~~~~ {{.python .sourceCode}}\n{source}\n~~~~~~~~")
        for shown in filter(None, (output_html(output, alt) for output in cell.get("outputs", []))):
            if shown.startswith("<"):
                ready.append(shown)
                shown = f"<!-- ready {len(ready) - 1} -->"
            parts.append(f'<div class="cell-output cell-output-display">\n\n{shown}\n\n</div>')
    body, _ = check_site.pandoc("\n\n".join(parts), "html", "--mathml", "--no-highlight", "--wrap=none")
    body, found = re.subn(r"<!-- ready (\d+) -->", lambda mark: ready[int(mark[1])], body)
    assert found == len(ready), f"{path.name}: {len(ready)} outputs, {found} on the page"
    body = re.sub(r'(<math display="block".*?</math>)', r'<span class="math display">\1</span>', body, flags=re.DOTALL)
    title = re.search(r"^title: *(.*)$", parts[0], re.MULTILINE)          # nbdev's header; Quarto makes a heading of it
    style = (ROOT / "nbs" / "styles.css").read_text()
    return (f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{path.stem}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{THEME}{style}</style></head><body><main><h1>{title[1]}</h1>{body}</main></body></html>")


@pytest.fixture(scope="session")
def site():
    """site(name): the page of a notebook. The notebooks are processed anew where one of them, or a module, is newer."""
    folder, done = ROOT / "_proc", ROOT / "_proc" / "processed"
    sources = [*(ROOT / "nbs").rglob("*.ipynb"), *(ROOT / "vasa_ref").rglob("*.py")]
    newest = max(path.stat().st_mtime for path in sources if path.name != "_modidx.py")
    if not done.exists() or done.stat().st_mtime < newest:
        check_site.build()
        done.touch()

    @cache
    def page(name):
        path = folder / f"{name}.html"
        path.write_text(page_html(path.with_suffix(".ipynb")))
        return path

    return page


@pytest.fixture(scope="session")
def decks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    slides.main([str(folder)])
    return sorted(folder.glob("*.html"))
