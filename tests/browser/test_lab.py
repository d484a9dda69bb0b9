"""In JupyterLab: the panel of controls follows the hand and makes a film that plays; the tour runs to its end."""
import shutil
import time

import nbformat
import pytest
from conftest import PICTURE, ROOT, drop, serving, shown
from nbformat.v4 import new_code_cell, new_notebook

CELL = """from vasa_ref.talking.controls import Controls, Settings
from vasa_ref.talking.talker import Talker
Controls(Talker.from_pretrained("laptop"), Settings(text="Hello."))"""
MINUTE = 60_000
SHOTS = ROOT / "_shots"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "The address of a JupyterLab with panel.ipynb and the tour, and no extensions from outside."
    folder = tmp_path_factory.mktemp("lab")
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    nbformat.write(new_notebook(cells=[new_code_cell(CELL)], metadata=kernel), folder / "panel.ipynb")
    shutil.copy(ROOT / "nbs" / "00_tour.ipynb", folder / "tour.ipynb")
    with serving(folder, "jupyterlab", "--allow-root", "--ip=127.0.0.1", f"--ServerApp.root_dir={folder}",
                 "--IdentityProvider.token=", "--LabApp.news_url=None", "--LabApp.expose_app_in_browser=True") as port:
        yield f"http://127.0.0.1:{port}/lab/tree/"


@pytest.fixture
def notebook(browser, lab):
    "notebook(name) opens one and runs all of it; exceptions of the page fail the test at its end."
    said, opened = [], []

    def run(name):
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        opened.append(page)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(lab + name)
        page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click(timeout=3 * MINUTE)
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status "
                               "== 'idle'", timeout=3 * MINUTE)
        page.evaluate("""() => {
          for (const cell of window.jupyterapp.shell.currentWidget.content.model.cells)
            if (cell.type == 'code') cell.clearExecution();
          window.jupyterapp.commands.execute('notebook:run-all-cells');
        }""")
        return page

    yield run
    for page in opened: page.close()
    assert not said


def test_the_panel_follows_the_hand_and_makes_a_film_that_plays(notebook):
    SHOTS.mkdir(exist_ok=True)
    page = notebook("panel.ipynb")
    still = page.locator("img.widget-image, .widget-image img").last                   # the thumbnails come before it
    page.get_by_text("gaze yaw, °").wait_for(timeout=5 * MINUTE)
    page.wait_for_function("document.querySelectorAll('button.jupyter-button').length > 8", timeout=MINUTE)
    emotion = page.locator(".widget-dropdown", has=page.get_by_text("emotion", exact=True)).locator("select")
    assert emotion.evaluate("e => e.selectedOptions[0].text").split() == "what the audio says".split()
    assert not page.get_by_text("its strength").is_visible()
    before = shown(still)
    handle = page.locator(".widget-slider", has=page.get_by_text("gaze yaw, °")).locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    for k in range(1, 9):
        page.mouse.move(box["x"] + 5 + 6 * k, box["y"] + 5)
        page.wait_for_timeout(30)
    began, moved = time.monotonic(), 0
    while moved < 0.5 and time.monotonic() - began < 60:                                # and the button is still down
        page.wait_for_timeout(20)
        moved = sum(abs(a - b) for a, b in zip(shown(still), before)) / len(before)
    print(f"a slider that is held: the picture moved after {time.monotonic() - began:.2f} s")
    assert moved > 0.5, "the mean change of the picture, of 255"
    page.mouse.up()
    page.get_by_role("button", name="Make the film").click()
    film = page.locator(".widget-html video")
    film.wait_for(timeout=10 * MINUTE)
    film.evaluate("film => film.play()")
    page.wait_for_function("document.querySelector('.widget-html video').currentTime > 0.2", timeout=MINUTE)
    assert film.evaluate("film => [film.videoWidth, film.controls, film.duration > 0.3]") == [256, True, True]
    assert not page.get_by_text("of other settings").is_visible()
    page.screenshot(path=SHOTS / "panel.png")
    emotion.select_option("sad")
    page.get_by_text("of other settings").wait_for(timeout=MINUTE)
    assert page.get_by_text("its strength").is_visible()
    page.get_by_text("The same without a panel").click()
    assert "emotion" in page.locator(".widget-html pre").last.inner_text()
    drop(page, PICTURE)
    page.get_by_text("Took speaking.webp as the portrait.").wait_for(timeout=MINUTE)
    assert page.get_by_placeholder("speaking.webp").is_visible()


def test_the_tour_runs_in_the_browser(notebook):
    began = time.monotonic()
    page = notebook("tour.ipynb")
    idle = """() => {
      const panel = window.jupyterapp.shell.currentWidget;
      const code = [...panel.content.model.cells].filter(c => c.type == 'code');
      return code.every(c => c.executionCount !== null) && panel.sessionContext.session?.kernel?.status == 'idle';
    }"""
    page.wait_for_function(idle, timeout=15 * MINUTE, polling=1000)
    outputs = page.evaluate("""() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
      .filter(c => c.type == 'code').flatMap(c => c.outputs.toJSON().map(o => o.output_type))""")
    print(f"the tour, in a browser: {time.monotonic() - began:.0f} s, {len(outputs)} outputs")
    assert "error" not in outputs and len(outputs) > 15
