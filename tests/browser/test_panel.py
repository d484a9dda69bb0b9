"""The panel outside JupyterLab, in Notebook 7 and in Voila: sliders, files that are dropped, and the microphone."""
import time
import wave
from statistics import median

import nbformat
import pytest
from conftest import PICTURE, ROOT, drop, serving, shown
from nbformat.v4 import new_code_cell, new_notebook

APP = """from vasa_ref.talking.controls import Controls, Settings
Controls(settings=Settings(text="Hello."))"""                     # all of a Voila app
MINUTE = 60_000
SHOTS = ROOT / "_shots"
# when the last picture of the page, the still, changed: milliseconds from `from`
WATCH = """() => {
  const still = [...document.querySelectorAll('img.widget-image, .widget-image img')].pop();
  new MutationObserver(() => window.changes.push(performance.now() - window.from))
    .observe(still, {attributes: true, attributeFilter: ['src']});
}"""


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panel")
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    nbformat.write(new_notebook(cells=[new_code_cell(APP)], metadata=kernel), folder / "panel.ipynb")
    with wave.open(str(folder / "speech.wav"), "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(bytes(range(256)) * 32)
    (folder / "notes.txt").write_text("Neither a picture nor a sound.")
    return folder


def in_notebook(browser, folder):
    with serving(folder, "notebook", "--allow-root", f"--ServerApp.root_dir={folder}", "--IdentityProvider.token=",
                 "--JupyterNotebookApp.expose_app_in_browser=True") as port:
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        page.goto(f"http://127.0.0.1:{port}/notebooks/panel.ipynb")
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status "
                               "== 'idle'", timeout=3 * MINUTE)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        yield page


def in_voila(browser, folder):
    with serving(folder, "voila", folder / "panel.ipynb") as port:
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        page.goto(f"http://127.0.0.1:{port}/", timeout=3 * MINUTE)
        yield page


@pytest.fixture(scope="module", params=[in_notebook, in_voila], ids=["notebook", "voila"])
def panel(request, browser, app):
    "A page that shows the panel, with all thumbnails; exceptions of the widgets fail the last test of it."
    for page in request.param(browser, app):
        said = []
        page.on("pageerror", lambda error: said.append(str(error.stack)))
        page.get_by_text("gaze yaw, °").wait_for(timeout=5 * MINUTE)
        page.wait_for_function("[...document.querySelectorAll('img.widget-image')].filter(i => i.naturalWidth)"
                               ".length > 4", timeout=MINUTE)
        yield page
        page.close()
        assert not [error for error in said if "/static/notebook/" not in error]          # Notebook's own are its own


def still(page): return page.locator("img.widget-image, .widget-image img").last


def status(page): return page.locator(".vasa-drop [role=status]")


def pressed(page, text):
    "Which way is pressed to give a portrait and a speech."
    row = page.locator(".widget-toggle-buttons", has=page.get_by_text(text))
    return row.locator("button.mod-active").inner_text()


def test_a_slider_moves_pixels_and_soon(panel):
    slider = panel.locator(".widget-slider", has=panel.get_by_text("gaze yaw, °"))
    handle = slider.locator(".noUi-handle, .ui-slider-handle")                       # of ipywidgets 8, and 7
    handle.scroll_into_view_if_needed()
    box, before = handle.bounding_box(), shown(still(panel))
    panel.evaluate(WATCH)
    panel.mouse.move(box["x"] + 5, box["y"] + 5)
    panel.mouse.down()
    sketches = []
    for k in range(1, 7):
        panel.evaluate("() => { window.changes = []; window.from = performance.now(); }")
        panel.mouse.move(box["x"] + 5 + 16 * k, box["y"] + 5)
        panel.wait_for_function("window.changes.length > 1", timeout=MINUTE)          # a sketch, then all steps
        sketches.append(panel.evaluate("window.changes[0]"))
    panel.mouse.up()
    print(f"a slider that is held: a sketch after {median(sketches):.0f} ms, of {[round(one) for one in sketches]}")
    change = shown(still(panel))
    assert sum(abs(a - b) for a, b in zip(change, before)) / len(before) > 0.5, "the mean change, of 255"


def test_a_picture_and_a_sound_are_dropped(panel, app):
    before = shown(still(panel))
    drop(panel, PICTURE, app / "speech.wav")
    panel.get_by_text("Took speaking.webp as the portrait. Took speech.wav as the speech.").wait_for(timeout=MINUTE)
    SHOTS.mkdir(exist_ok=True)
    panel.screenshot(path=SHOTS / f"panel-{'notebook' if 'notebooks' in panel.url else 'voila'}.png")
    assert pressed(panel, "portrait from") == pressed(panel, "speech from") == "dropped"
    assert panel.get_by_placeholder("speech.wav").is_visible()
    assert sum(abs(a - b) for a, b in zip(shown(still(panel)), before)) / len(before) > 5


def test_what_is_neither_or_too_large_or_misses_the_zone_gets_a_sentence(panel, app, tmp_path):
    drop(panel, app / "notes.txt")
    panel.get_by_text("notes.txt is neither a picture nor a sound").wait_for(timeout=MINUTE)
    large, here = tmp_path / "large.wav", panel.url
    large.write_bytes(bytes(9_500_000))
    drop(panel, large)
    panel.get_by_text("large.wav: 9.5 MB, and 9 MB fit").wait_for(timeout=MINUTE)
    drop(panel, app / "notes.txt", beside=40)
    panel.wait_for_timeout(200)
    assert panel.url == here and "large.wav" in status(panel).inner_text()


def test_speech_from_the_microphone_becomes_a_film(panel):
    panel.get_by_role("button", name="record").click()
    panel.get_by_role("button", name="stop, 1 s").click(timeout=MINUTE)
    panel.get_by_text("Took recording as the speech.").wait_for(timeout=MINUTE)
    panel.get_by_role("button", name="Make the film").click()
    film = panel.locator(".widget-html video")
    film.wait_for(timeout=3 * MINUTE)
    panel.wait_for_function("document.querySelector('.widget-html video').readyState > 0", timeout=MINUTE)
    assert 0.8 < film.evaluate("film => film.duration") < 4


REFUSED = "navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{}'); }}"


@pytest.mark.parametrize("without, sentence", [
    (REFUSED.format("NotFoundError"), "There is no microphone"), (REFUSED.format("NotAllowedError"), "may not use the"),
    ("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})", "This page gives no microphone")])
def test_without_a_microphone_there_is_a_sentence(panel, without, sentence):
    panel.evaluate(f"() => {{ {without} }}")
    panel.get_by_role("button", name="record").click()
    panel.get_by_text(sentence).wait_for(timeout=MINUTE)
    assert panel.get_by_role("button", name="record").is_enabled()


def test_without_anywidget_in_the_browser_uploads_work(browser, app):
    with serving(app, "voila", app / "panel.ipynb") as port:
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        page.route("**/anywidget/**", lambda route: route.abort())
        page.goto(f"http://127.0.0.1:{port}/", timeout=3 * MINUTE)
        page.get_by_text("gaze yaw, °").wait_for(timeout=5 * MINUTE)
        before = shown(still(page))
        page.locator(".widget-toggle-buttons", has=page.get_by_text("portrait from")).get_by_text("upload").click()
        with page.expect_file_chooser() as chooser: page.locator(".widget-upload").first.click()
        chooser.value.set_files(PICTURE)
        began, moved = time.monotonic(), 0
        while moved < 5 and time.monotonic() - began < 60:
            page.wait_for_timeout(100)
            moved = sum(abs(a - b) for a, b in zip(shown(still(page)), before)) / len(before)
        page.screenshot(path=SHOTS / "panel-without-anywidget.png")
        assert moved > 5 and page.locator(".vasa-drop").count() == 0
        page.close()
