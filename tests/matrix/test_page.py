"""The page of a matrix in a real browser: wide and narrow, light and dark, mouse and keyboard."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from exporter.matrix.cells import Cell
from exporter.matrix.explain import Explanation
from exporter.matrix.report import HTML, write_matrix
from exporter.matrix.run import Result
from exporter.matrix.verdict import CellVerdict, FirstLayer
from exporter.parity.status import Status
from tests.matrix import toy
from tests.report.test_browser import browser as browser  # a fixture

pytestmark = pytest.mark.slow

WORDS = {
    Status.PASS: "pass",
    Status.FAIL: "fail",
    Status.NOT_RUN: "not run",
    Status.AMBIGUOUS: "ambiguous",
}
TEXT = (
    "name: page\npipelines: [made.yaml]\naxes: {onnxruntime: [1.23.2, 1.24.4, 1.26.0, 1.29.0,"
    " 1.30.0, 1.31.1], threads: [1, 2, 4], level: [disable, all], opset: [18, 20], seed: [0, 1]}\n"
)
HOSTILE = "<img src=x onerror=window.hacked=1> " + "a_name_that_never_ends_" * 12


def status_of(cell: Cell) -> Status:
    if cell["level"] == "all" or cell["seed"] == 1:
        return Status.PASS
    other = {"1.23.2": Status.FAIL, "1.24.4": Status.NOT_RUN, "1.26.0": Status.AMBIGUOUS}
    return other.get(str(cell["onnxruntime"]), Status.PASS)


def result_of(folder: Path) -> Result:
    held = toy.matrix(folder, TEXT)
    cells = {}
    for at, cell in enumerate(held.space.cells()):
        if at % 5 == 4:
            continue  # nobody asked for it
        page = folder / "cells" / str(at) / "report" / "report.html"
        page.parent.mkdir(parents=True)
        page.write_text(f"<!doctype html><title>report {at}</title><p>{cell.label()}")
        cells[cell] = CellVerdict(
            status=status_of(cell), reason=HOSTILE, strain=0.5, page=str(page.relative_to(folder)),
            first=FirstLayer(module="encoder.norm", op="layer_norm", source=HOSTILE),
        )  # fmt: skip
    failing = next(c for c in cells if cells[c].status is Status.FAIL)
    item = Explanation(
        where={"onnxruntime": ("1.23.2",)}, example=failing, verdict=cells[failing], failing=3,
        trail={"onnxruntime": (("1.23.2", cells[failing]),)},
    )  # fmt: skip
    return Result(
        name="page", description=HOSTILE, space=held.space, total=144, first=30, cells=cells,
        explanations=(item,),
    )  # fmt: skip


@pytest.fixture
def opened(browser, tmp_path: Path):
    """Opens the page in a window; nothing may complain, and nothing is fetched."""
    pages: list[Page] = []
    complaints: list[str] = []
    result = result_of(tmp_path)
    write_matrix(result, tmp_path)

    def opener(width: int = 1300, **context) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 900}, **context)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url)
                if not asked.url.startswith("file:") else None)  # fmt: skip
        page.goto((tmp_path / HTML).as_uri())
        pages.append(page)
        return page

    opener.result = result
    yield opener
    for page in pages:
        assert page.evaluate("window.hacked") is None
        page.close()
    assert complaints == []


def everything_open(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((held) => { held.open = true; })")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1300])
def test_the_page_fits_its_window_and_tables_scroll_by_themselves(opened, width, scheme):
    page = opened(width, color_scheme=scheme)
    everything_open(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width + 2
    frames = page.locator(".wide")
    assert frames.count() == 2 * 2 * 2
    inside = frames.first.evaluate("(held) => [held.scrollWidth, held.clientWidth]")
    if width == 400:
        assert inside[0] > inside[1]
        frames.first.focus()
        page.keyboard.press("ArrowRight")
        left = (frames.first.evaluate("(held) => held.scrollLeft") for _ in iter(int, 1))
        assert any(moved > 0 or page.wait_for_timeout(50) for moved in itertools.islice(left, 100))


def test_dark_is_dark(opened):
    colours = {
        scheme: luminance(rgba(opened(color_scheme=scheme), "html", "backgroundColor")[:3])
        for scheme in ("light", "dark")
    }
    assert colours["dark"] < 0.05 < 0.9 < colours["light"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_verdict_can_be_read(opened, scheme):
    """Contrast of text and background of at least 4.5 (WCAG 2.1, 1.4.3)."""
    page = opened(color_scheme=scheme)
    everything_open(page)
    behind = rgba(page, "html", "backgroundColor")[:3]
    for kind in ("pass", "fail", "not-run", "ambiguous", "none"):
        back = over(rgba(page, f"td.{kind}", "backgroundColor"), behind)
        text = rgba(page, f"td.{kind} a, td.{kind}" if kind == "none" else f"td.{kind} a", "color")
        bright, dim = sorted((luminance(back), luminance(over(text, back))), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (kind, back, text)


def rgba(page: Page, selector: str, prop: str) -> tuple[float, ...]:
    text = page.locator(selector).first.evaluate(
        f"""(held) => {{ const probe = document.createElement("canvas").getContext("2d");
        const said = getComputedStyle(held).{prop};
        if (said === "rgba(0, 0, 0, 0)" && held === document.documentElement) {{
          const box = document.createElement("div"); box.style.background = "Canvas";
          document.body.append(box); const found = getComputedStyle(box).backgroundColor;
          box.remove(); return found; }}
        return said; }}"""
    )
    numbers = [float(part) for part in re.findall(r"[\d.]+", text)]
    return tuple(numbers) if len(numbers) == 4 else (*numbers, 1.0)


def over(front: tuple[float, ...], back: tuple[float, ...]) -> tuple[float, ...]:
    share = front[3]
    return tuple(share * f + (1 - share) * b for f, b in zip(front[:3], back, strict=True))


def luminance(colour: tuple[float, ...]) -> float:
    parts = [value / 255 for value in colour[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_cell_is_there_once_in_its_colour_and_opens_its_report(opened):
    page = opened()
    everything_open(page)
    cells = opened.result.cells
    for status, word in WORDS.items():
        asked = sum(verdict.status is status for verdict in cells.values())
        shown = page.locator(f"td.{word.replace(' ', '-')}")
        assert shown.count() == asked > 0
        assert {text.split(" 50 %")[0] for text in shown.all_inner_texts()} == {word}
    assert page.locator("td.none").count() == 144 - len(cells)
    link = page.locator("td.fail a").first
    link.click()
    page.wait_for_load_state()
    assert page.title().startswith("report ") and "onnxruntime=1.23.2" in page.inner_text("p")


def test_what_is_not_green_is_open_and_folds_are_reached_by_keyboard(opened):
    page = opened()
    assert page.locator("td.fail").first.is_visible()
    closed = page.locator("details:not([open]) > summary").first
    assert "pass" in closed.inner_text()
    before = page.locator("details[open]").count()
    closed.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == before + 1


def test_why_cells_were_not_run_stands_on_the_page(opened):
    page = opened()
    told = page.inner_text("body")
    assert HOSTILE.split()[0] in told and "3 cells fail, only onnxruntime before 1.24.4" in told
