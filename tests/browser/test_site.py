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


LIMIT = 3_000_000                                # bytes of a page and of all that it loads, without Quarto's own
SHOTS = ROOT / "_shots"                          # a picture of every page at every width, to be looked at


def keep(page, name, width):
    "A screenshot of a page, for people."
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"{name.replace('/', '-')}-{width}.jpg", type="jpeg", quality=60, full_page=True)


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
    keep(page, name, 390)


@pytest.mark.parametrize("name", NAMES)
def test_on_a_wide_screen_code_fits_its_column_and_pictures_say_what_they_show(tab, site, name):
    page = tab(site(name))
    cut = """[...document.querySelectorAll('pre')].filter(e => /python|sourceCode/.test(e.className)
      && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60))"""
    assert page.evaluate(cut) == []
    silent = page.evaluate("[...document.images].filter(i => i.alt.trim().length < 4).map(i => i.src.slice(0, 60))")
    assert silent == []
    assert page.evaluate("[...document.querySelectorAll('video')].every(v => v.controls && v.ariaLabel?.length > 20)")
    local = {url for url in page.evaluate("[...document.images].map(i => i.src)") if url.startswith("file:")}
    weight = site(name).stat().st_size + sum(Path(url.removeprefix("file://")).stat().st_size for url in local)
    assert weight < LIMIT
    keep(page, name, 1280)


def luminance(colour):
    "Of a colour as the browser writes it, rgb(r, g, b)."
    channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_by_day_and_at_night(tab, site, scheme):
    page = tab(site("index"), color_scheme=scheme)
    behind = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (behind < 0.05) == (scheme == "dark")
    for what in ("body", "main a", "figcaption", ".ways p"):
        text = luminance(page.evaluate(f"getComputedStyle(document.querySelector('{what}')).color"))
        assert (max(text, behind) + 0.05) / (min(text, behind) + 0.05) >= 4.5, what          # as WCAG asks of text


@pytest.mark.parametrize("width, height", [(1280, 720), (390, 844)])
def test_a_portrait_speaks_on_the_first_screen(tab, site, width, height):
    page = tab(site("index"), width=width, height=height)
    film = page.locator(".hero img")
    box = film.bounding_box()
    assert box["y"] + box["height"] <= height and box["width"] >= 200
    first = film.screenshot()
    page.wait_for_timeout(400)
    assert film.screenshot() != first
    assert page.locator(".ways > div").count() == 3
    assert page.locator("main table").first.locator("tbody tr").count() == 5


def seen(twin):
    "What a twin shows: a screenshot of its picture, once that is decoded."
    picture = twin.locator("img:visible")
    picture.evaluate("picture => picture.decode()")
    return picture.screenshot()


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
              "talking/05_controls", "speed/02_latency"}
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
