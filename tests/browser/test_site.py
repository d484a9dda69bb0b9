"""The site's pages in a browser: they open, their pictures are there, twins move without a kernel, phones suffice."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = re.findall(r"- (\S+)\.ipynb", (ROOT / "nbs" / "sidebar.yml").read_text())
TWINS = [name for name in NAMES if "<div data-labels" in (ROOT / "nbs" / f"{name}.ipynb").read_text()]
# what is wider than a window although nothing around it scrolls
WIDE = """() => {
  const width = document.documentElement.clientWidth;
  const scrolls = e => e && e !== document.documentElement && (
    /auto|scroll|hidden/.test(getComputedStyle(e).overflowX) && e.getBoundingClientRect().right <= width + 1
    || scrolls(e.parentElement));
  return [...document.querySelectorAll('main *')]
    .filter(e => e.getBoundingClientRect().right > width + 1 && e.checkVisibility() && !scrolls(e.parentElement))
    .map(e => `${e.tagName} ${Math.round(e.getBoundingClientRect().right)} ${e.textContent.trim().slice(0, 60)}`);
}"""


@pytest.mark.parametrize("name", NAMES)
def test_a_page_opens_with_all_its_pictures_and_fits_a_phone(tab, site, name):
    page = tab(site(name), width=390, height=844)
    assert page.locator("h1").first.inner_text().strip()
    broken = page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.alt)")
    assert broken == []
    assert page.locator("main").evaluate("e => e.innerText.includes('$$')") is False
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate(WIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def seen(twin):
    "What a twin shows: a screenshot of its picture."
    return twin.locator("img:visible").screenshot()


@pytest.mark.parametrize("name", TWINS)
def test_twins_move_without_a_kernel(tab, site, name):
    page = tab(site(name), width=1280, height=900)
    twins = page.locator("div[data-labels]").all()
    assert twins
    for twin in twins:
        assert twin.locator("img:visible").count() == 1
        for i, bar in enumerate(twin.locator("input[type=range]").all()):
            before, label = seen(twin), twin.locator("output").nth(i).inner_text()
            bar.focus()
            for _ in range(int(bar.get_attribute("max"))): page.keyboard.press("ArrowRight")
            assert seen(twin) != before and twin.locator("output").nth(i).inner_text() != label
            for _ in range(int(bar.get_attribute("max"))): page.keyboard.press("ArrowLeft")
            assert seen(twin) == before and twin.locator("output").nth(i).inner_text() == label


def test_there_are_twins_in_the_chapters_that_have_something_to_play_with():
    wanted = {"world/01_head", "world/11_speaking", "world/12_prosody", "world/13_performer", "face/01_warps",
              "face/02_networks", "motion/01_diffusion", "motion/06_sampling", "talking/03_talker",
              "talking/04_controls", "speed/02_latency"}
    assert wanted <= set(TWINS)


def test_pictures_follow_the_sound(tab, site):
    page = tab(site("world/11_speaking"))
    twin = page.locator("div[data-labels]", has=page.locator("audio"))
    before = seen(twin)
    twin.locator("audio").evaluate("sound => sound.play()")
    page.wait_for_function("+document.querySelector('div[data-labels] audio').closest('[data-labels]')"
                           ".querySelector('input').value > 5")
    twin.locator("audio").evaluate("sound => sound.pause()")
    page.wait_for_timeout(200)
    assert seen(twin) != before
    twin.locator("input").fill("10")                                   # by hand: the sound goes there, too
    page.wait_for_function("document.querySelector('div[data-labels] audio').currentTime === 0.4")
