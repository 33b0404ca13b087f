"""Every page in a real browser: wide and narrow, light and dark, and on paper.

A picture of each lies in the test's own folder (``--basetemp DIR`` chooses where).
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from tests.report.looking import (
    complaints,
    complaints_of_print,
    on_the_first_screen,
    words_of_print,
)
from tests.report.pages import PAGES
from tests.report.test_browser import browser as browser  # a fixture

pytestmark = pytest.mark.slow

SIZES = {1400: 900, 400: 800}
"""Height of the window by its width, in CSS pixels."""
OPEN_ALL = "document.querySelectorAll('details').forEach((held) => { held.open = true; })"


@pytest.fixture
def look(browser, tmp_path: Path):
    """Opens a page by its name in a window of a width."""
    opened = []

    def opener(name: str, width: int, scheme: str):
        write, _ = PAGES[name]
        window = {"width": width, "height": SIZES[width]}
        page = browser.new_page(viewport=window, color_scheme=scheme)
        opened.append(page)
        path = write(tmp_path)
        page.goto(path.as_uri())
        if "data-ready" in path.read_text(encoding="utf-8"):
            page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
        return page

    yield opener
    for page in opened:
        page.close()


def size_of(picture: Path) -> tuple[int, int]:
    return struct.unpack(">II", picture.read_bytes()[16:24])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read(look, tmp_path: Path, name: str, width: int, scheme: str):
    page = look(name, width, scheme)
    assert on_the_first_screen(page, PAGES[name][1])
    page.screenshot(path=tmp_path / "first.png")
    page.evaluate(OPEN_ALL)
    page.screenshot(path=tmp_path / "whole.png", full_page=True)
    assert size_of(tmp_path / "whole.png")[0] == width
    assert complaints(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_on_paper_nothing_is_cut(look, tmp_path: Path, name: str):
    page = look(name, 1400, "dark")
    page.pdf(path=tmp_path / "print.pdf", format="A4")
    page.emulate_media(media="print")
    assert complaints(page, printed=True) == []
    said = page.evaluate("document.body.innerText")
    wanted = set(re.findall(r"(?<![\w.])[A-Za-z]{3,}(?![\w.])", said))
    assert PAGES[name][1].split()[0].lower() in {word.lower() for word in wanted} | {"finding(s)"}
    assert complaints_of_print(words_of_print(tmp_path / "print.pdf"), wanted) == []


UGLY = """<!doctype html><meta name="viewport" content="width=device-width">
<style>body { margin: 0; background: #fff; color: #000; font: 16px/1.3 sans-serif; }</style>"""
SPOILT = {
    "broken inside": "<p style='width: 3em; word-break: break-all'>incomprehensible</p>",
    "beyond the edge": "<p style='position: absolute; left: -20px'>beyond</p>",
    "cut off by": "<p style='width: 5em; overflow: hidden; white-space: nowrap'>a long line</p>",
    "over one another": "<p>one</p><p style='position: absolute; top: 0; left: 0'>other</p>",
    "too faint": "<p style='color: #999'>faint</p>",
    "scrolls sideways": "<p style='width: 2000px'>wide</p>",
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_ugly_is_seen(browser, kind: str):
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.set_content(UGLY + "<p>good</p>")
    assert complaints(page) == [] and not on_the_first_screen(page, "FAIL")
    page.set_content(UGLY + SPOILT[kind])
    found = complaints(page)
    assert len(found) == 1 and kind in found[0]
    page.close()


def test_a_verdict_below_the_first_screen_is_seen(browser):
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.set_content(UGLY + "<p style='margin-top: 900px'>FAIL</p>")
    assert not on_the_first_screen(page, "fail")
    page.set_content(UGLY + "<p>it did FAIL</p>")
    assert on_the_first_screen(page, "fail")
    page.close()


def test_what_is_not_on_paper_is_seen(browser, tmp_path: Path):
    page = browser.new_page()
    cut = "<div style='width: 3em; overflow: hidden'><p style='margin-left: 9em'>lost</p></div>"
    over = "<p>one</p><p style='position: absolute; top: 0; left: 0'>other</p>"
    for text, kind in ((cut, "not on paper"), (over, "over one another")):
        page.set_content(UGLY + text)
        page.pdf(path=tmp_path / "print.pdf", format="A4")
        wanted = set(page.evaluate("document.body.innerText").split())
        (found,) = complaints_of_print(words_of_print(tmp_path / "print.pdf"), wanted)
        assert kind in found
    page.close()
