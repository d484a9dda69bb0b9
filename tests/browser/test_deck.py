"""Slides in a browser: they turn by keys and clicks, nothing is cut off, twins move, and they print one to a page."""
import re


def here(page): return int(page.evaluate("location.hash.slice(1)"))


def test_slides_turn_by_keys_and_clicks(tab, decks):
    page = tab(decks[4])
    count = page.locator("section").count()
    title = page.locator("section:visible h1").inner_text()
    assert here(page) == 1 and page.locator("section:visible").count() == 1 and title.startswith("Week 5.")
    for key, place in (("ArrowRight", 2), ("Space", 3), ("PageDown", 4), ("ArrowLeft", 3), ("End", count),
                       ("ArrowRight", count), ("Home", 1), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        assert here(page) == place and page.locator("section:visible").count() == 1
        assert page.locator("section:visible footer").inner_text().endswith(f"{place} / {count}")
    page.mouse.click(900, 650)
    assert here(page) == 2
    page.mouse.click(100, 650)
    assert here(page) == 1
    page = tab(decks[4].as_uri() + "#7")
    assert here(page) == 7 and page.locator("section:visible").get_attribute("id") == "s7"


def test_nothing_on_a_slide_is_cut_off(tab, decks):
    cut = """() => [...document.querySelectorAll('section')].filter((s, i) => {
      show(i);
      return s.scrollHeight > s.clientHeight + 2 || s.scrollWidth > s.clientWidth + 2
        || [...s.querySelectorAll('img')].some(e => e.checkVisibility() && e.clientHeight < 60)
        || [...s.querySelectorAll('math')].some(e => e.getBoundingClientRect().right > innerWidth);
    }).map(s => s.id)"""
    for deck in decks: assert (deck.name, tab(deck).evaluate(cut)) == (deck.name, [])


def test_a_twin_on_a_slide_moves_and_the_slide_stays(tab, decks):
    page = tab(decks[0])
    page.evaluate("show(slides.findIndex(s => s.classList.contains('twin')))")
    place, twin = here(page), page.locator("section:visible div[data-labels]")
    before = twin.locator("img:visible").screenshot()
    twin.locator("input").first.focus()
    for _ in range(3): page.keyboard.press("ArrowRight")
    assert here(page) == place and twin.locator("img:visible").screenshot() != before


def test_slides_are_dark_where_that_is_wanted(tab, decks):
    light, dark = (tab(decks[4], color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
                   for scheme in ("light", "dark"))
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (light, dark)]
    assert brightness[0] == 3 * 255 and brightness[1] < 150


def test_a_deck_prints_one_slide_a_page(tab, decks):
    page = tab(decks[4])
    printed = page.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == page.locator("section").count()
    boxes = set(re.findall(rb"/MediaBox\s*\[0 0 (\d+)[.\d]* (\d+)", printed))
    assert boxes == {(b"960", b"540")}


def test_a_deck_needs_no_network(tab, decks):
    asked = []
    page = tab(decks[1])
    page.on("request", lambda request: asked.append(request.url[:100]))
    page.reload()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
