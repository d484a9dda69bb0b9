"""The panel of controls in JupyterLab: a slider that is moved changes the picture."""
import os
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook

CELL = """from vasa_ref.talking.controls import Controls
from vasa_ref.talking.talker import Talker
Controls(Talker.from_pretrained("laptop"))"""


@pytest.fixture
def lab(tmp_path):
    "The address of a JupyterLab with one notebook, panel.ipynb, and no extensions from outside."
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    nbformat.write(new_notebook(cells=[new_code_cell(CELL)], metadata=kernel), tmp_path / "panel.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
                                                     "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1",
               f"--ServerApp.root_dir={tmp_path}", "--IdentityProvider.token=", "--LabApp.news_url=None"]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, env=os.environ | paths | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log)
    try:
        for _ in range(120):
            try: urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).read()
            except OSError: time.sleep(0.5)
            else: break
        else: pytest.fail((tmp_path / "log").read_text()[-2000:])
        yield f"http://127.0.0.1:{port}/lab/tree/panel.ipynb"
    finally:
        server.terminate()
        server.wait(20)


def test_a_slider_of_the_panel_moves_the_picture(browser, lab):
    page = browser.new_page(viewport={"width": 1400, "height": 1400})
    page.goto(lab)
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click(timeout=90_000)
    page.keyboard.press("Shift+Enter")
    still = page.locator("img.widget-image, .widget-image img").first
    still.wait_for(timeout=180_000)
    shown = lambda: still.evaluate("""async image => {
      await image.decode();
      const canvas = Object.assign(document.createElement('canvas'), {width: 64, height: 64});
      const pen = canvas.getContext('2d');
      pen.drawImage(image, 0, 0, 64, 64);
      return [...pen.getImageData(0, 0, 64, 64).data];
    }""")
    before = shown()
    slider = page.locator(".widget-slider", has=page.get_by_text("gaze yaw", exact=True))
    slider.locator(".noUi-handle").focus()
    for _ in range(15): page.keyboard.press("ArrowRight")
    for _ in range(60):
        page.wait_for_timeout(500)
        moved = sum(abs(a - b) for a, b in zip(shown(), before)) / len(before)
        if moved > 0.5: break
    assert moved > 0.5, "the mean change of the picture, of 255"
    page.close()
