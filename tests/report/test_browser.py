"""The HTML report in a real browser: Debian's Chromium, which scripts/install-system-packages has.

A machine without it fails these tests; it does not skip them.
"""

import json
from pathlib import Path
from shutil import which

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from exporter.monitor.page import page_of
from exporter.report.html import render_html
from exporter.report.system_text import write_system_report
from tests.report.test_system_verdict import calls, graph, report, result
from tests.support import reports

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
# Where a tap lies on the screen, in pixels of the window.
POINT = """([index, column]) => {
  for (const view of Bokeh.index) {
    const held = view.model.renderers?.find((r) => r.data_source?.data?.[column]);
    if (!held) continue;
    const data = held.data_source.data;
    const box = view.el.getBoundingClientRect();
    return [box.left + view.frame.x_scale.compute(data.x[index]),
            box.top + view.frame.y_scale.compute(data[column][index])];
  }
  return null;
}"""
# How many pixels of the canvas of a plot are not of one colour.
INK = """(selector) => {
  const canvases = [];
  const walk = (node) => {
    if (node.tagName === "CANVAS") canvases.push(node);
    for (const child of node.children) walk(child);
    if (node.shadowRoot) for (const child of node.shadowRoot.children) walk(child);
  };
  walk(document.querySelector(selector));
  let ink = 0;
  for (const canvas of canvases) {
    const { width, height } = canvas;
    if (!width || !height) continue;
    const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    for (let i = 0; i < data.length; i += 4) {
      const spread = Math.max(data[i], data[i + 1], data[i + 2])
        - Math.min(data[i], data[i + 1], data[i + 2]);
      if (data[i + 3] > 100 && spread > 60) ink += 1;
    }
  }
  return ink;
}"""


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM is not None, "Chromium is missing: run scripts/install-system-packages"
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


class Opened:
    """A page with what it complained about and what it asked for."""

    def __init__(self, page: Page, path: Path):
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=60_000)

    def _console(self, message):
        # INK reads the canvas more often than a page would.
        if message.type in ("error", "warning") and "willReadFrequently" not in message.text:
            self.complaints.append(message.text)

    def point(self, index, column="local"):
        where = self.page.evaluate(POINT, [index, column])
        assert where is not None, "the plot is not drawn"
        return where

    def figures(self, column):
        """The texts of a column of the table, by its title."""
        titles = [t.strip() for t in self.page.locator("#taps thead th").all_inner_texts()]
        cells = f"#taps tbody tr td:nth-child({titles.index(column) + 1})"
        return self.page.locator(cells).all_inner_texts()

    def visible(self):
        return self.page.locator("#taps tbody tr").count()


@pytest.fixture
def open_report(browser, tmp_path):
    opened = []

    def opener(report, **context):
        path = tmp_path / "report.html"
        path.write_text(render_html(report), encoding="utf-8")
        page = browser.new_page(viewport={"width": 1300, "height": 900}, **context)
        opened.append(Opened(page, path))
        return opened[-1]

    yield opener
    for held in opened:
        assert held.complaints == []
        assert [
            url for url in held.requests if not url.startswith(("file:", "data:", "blob:"))
        ] == []
        assert held.page.evaluate("window.hacked") is None
        assert held.page.get_attribute("html", "data-ready") == "yes"
        held.page.close()


def culprit_index(report):
    """Index of the culprit's tap in the plot of its link."""
    link = report.link(report.culprits[0].link)
    taps = [(layer.module, tap) for layer in link.layers for tap in layer.taps]
    return next(i for i, (_, tap) in enumerate(taps) if tap.verdict == "fail")


@pytest.mark.parametrize("kind", sorted(reports.KINDS))
def test_every_kind_of_report_opens_without_a_complaint(open_report, kind):
    report = reports.KINDS[kind]()
    held = open_report(report)
    assert held.page.locator("h1").inner_text().strip()
    if report.links and any(link.layers for link in report.links):
        assert held.page.evaluate(INK, "#plot") > 20


def test_the_plot_is_drawn_with_its_curves_and_the_limit(open_report):
    held = open_report(reports.layer_fail())
    assert held.page.evaluate(INK, "#plot") > 500
    legend = held.page.evaluate(
        "[...Bokeh.index].flatMap((view) => view.model.above ?? [])"
        ".flatMap((legend) => legend.items.map((item) => item.label.value))"
    )
    for words in (
        "limit, layer alone",
        "float32 PyTorch (noise)",
        "ONNX, propagated",
        "ONNX, layer alone",
    ):
        assert words in legend


def test_hover_gives_layer_op_and_source_line(open_report):
    report = reports.layer_fail()
    held = open_report(report)
    held.page.locator("#plot").scroll_into_view_if_needed()
    held.page.mouse.move(*held.point(culprit_index(report)))
    tip = held.page.locator(".bk-Tooltip").first
    expect(tip).to_contain_text(report.culprits[0].layer)
    expect(tip).to_contain_text("aten.linear.default")
    expect(tip).to_contain_text("layers.py:31")
    expect(tip).to_contain_text("1.73e-4")


def test_a_hostile_name_is_text_in_the_hover_too(open_report):
    name = "<img src=x onerror=window.hacked=1>"
    held = open_report(reports.with_names(name))
    held.page.locator("#plot").scroll_into_view_if_needed()
    held.page.mouse.move(*held.point(0))
    expect(held.page.locator(".bk-Tooltip").first).to_contain_text(name)
    held.page.mouse.click(*held.point(0))
    expect(held.page.locator("#selected")).to_contain_text(name)
    held.page.wait_for_timeout(200)


def test_a_click_on_a_point_jumps_to_its_row(open_report):
    report = reports.layer_fail(blocks=8)
    held = open_report(report)
    held.page.locator("#plot").scroll_into_view_if_needed()
    held.page.mouse.click(*held.point(culprit_index(report)))
    row = held.page.locator("#taps tr.chosen")
    expect(row).to_be_in_viewport()
    expect(row).to_be_focused()
    expect(row).to_contain_text(report.culprits[0].layer)
    expect(held.page.locator("#selected")).to_contain_text("wrong: onnx")


def test_a_click_jumps_even_when_a_filter_hides_the_row(open_report):
    report = reports.layer_fail()
    held = open_report(report)
    held.page.select_option("#filter-verdict", "pass")
    held.page.get_by_label("Search").fill("vad")
    held.page.get_by_role("button", name="Show in the table").click()
    expect(held.page.locator("#taps tr.chosen")).to_contain_text(report.culprits[0].layer)


def test_filters_keep_what_fits(open_report):
    held = open_report(reports.layer_fail())
    assert held.visible() == 25
    held.page.select_option("#filter-verdict", "fail")
    assert held.visible() == 1 and held.figures("verdict") == ["fail"]
    held.page.select_option("#filter-verdict", "")
    held.page.select_option("#filter-op", "aten.relu.default")
    assert set(held.figures("op")) == {"aten.relu.default"} and held.visible() == 3


def test_search_finds_a_layer(open_report):
    held = open_report(reports.layer_fail())
    held.page.get_by_label("Search").fill("encoders.1.self_attn")
    expect(held.page.locator("#taps tbody tr")).to_have_count(4)
    assert all("encoders.1.self_attn" in text for text in held.figures("layer"))
    held.page.get_by_label("Search").fill("no such layer")
    expect(held.page.locator("#taps tbody")).to_contain_text("no tap fits")


def test_sorting_puts_the_worst_first(open_report):
    held = open_report(reports.layer_fail())
    header = held.page.locator("#taps thead th", has_text="alone / limit")
    header.click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    rising = [float(text) for text in held.figures("alone / limit")]
    assert rising == sorted(rising)
    header.click()
    expect(header).to_have_attribute("aria-sort", "descending")
    falling = [float(text) for text in held.figures("alone / limit")]
    assert falling == sorted(falling, reverse=True) and falling[0] > 100
    assert "feed_forward.w_2" in held.figures("layer")[0]


def test_nan_sorts_above_every_number_and_unmeasured_below(open_report):
    held = open_report(reports.not_finite())
    header = held.page.locator("#taps thead th", has_text="local error")
    header.click()
    # The table answers a click a moment later: a second one would be taken for the same.
    expect(header).to_have_attribute("aria-sort", "ascending")
    header.click()
    expect(header).to_have_attribute("aria-sort", "descending")
    assert held.figures("local error")[0] in ("NaN", "Inf")


def test_the_tree_is_coloured_and_filters_the_table(open_report):
    report = reports.layer_fail()
    held = open_report(report)
    red = held.page.locator("#tree .row", has=held.page.locator(".h3"))
    assert [text.strip() for text in red.all_inner_texts()][-1] == "w_2 (Linear)"
    held.page.get_by_role("button", name="vad", exact=True).click()
    assert set(held.figures("layer")) == {"vad.stft", "vad.lstm", "vad.decoder"}
    held.page.locator("#module-filter button").click()
    assert held.visible() == 25


def test_everything_is_reached_by_keyboard(open_report):
    report = reports.layer_fail()
    held = open_report(report)
    page = held.page
    page.locator("#plot").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#selected")).to_contain_text("(#2)")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page.locator("#taps tr.chosen")).to_be_focused()
    expect(page.locator("#taps tr.chosen")).to_contain_text("model.ctc.ctc_lo")
    head = page.locator("#taps thead th", has_text="alone / limit").first
    head.locator("[role=button]").first.focus()
    page.keyboard.press("Enter")
    # The table sorts in a moment of its own.
    expect(head).to_have_attribute("aria-sort", "ascending")
    rising = [float(text) for text in held.figures("alone / limit")]
    assert rising == sorted(rising)
    page.locator("#tree summary").first.focus()
    page.keyboard.press("Space")
    expect(page.locator("#tree > details")).not_to_have_attribute("open", "")
    # From the top, Tab comes to the link over the navigation first.
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")


def test_light_and_dark_follow_the_system_and_the_button(open_report):
    held = open_report(reports.passed(), color_scheme="dark")
    back = "getComputedStyle(document.body).backgroundColor"
    dark = held.page.evaluate(back)
    ink = held.page.evaluate(INK, "#plot")
    held.page.get_by_role("button", name="Light").click()
    assert held.page.evaluate(back) != dark
    assert ink > 500 and held.page.evaluate(INK, "#plot") > 500


def test_another_link_is_shown_when_chosen(open_report):
    held = open_report(reports.layer_fail())
    assert "fail" in held.page.locator("#filter-verdict").inner_text()
    held.page.select_option("#link", index=1)
    assert "fail" not in held.page.locator("#filter-verdict").inner_text()
    assert held.visible() == 25


def test_segments_lie_over_the_waveform(open_report):
    held = open_report(reports.passed())
    held.page.locator("#waveform-plot").scroll_into_view_if_needed()
    assert held.page.evaluate(INK, "#waveform-plot") > 500
    expect(held.page.locator("#waveform-text")).to_have_text("2 segments")
    box = held.page.locator("#waveform-plot").bounding_box()
    assert box
    held.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"])
    expect(held.page.locator(".bk-Tooltip").first).to_contain_text("13440 to 49280 samples")


def test_five_thousand_taps_open_within_two_seconds(open_report):
    """Seconds of processor time of the page's main thread: those do not depend on other work."""
    held = open_report(reports.many_taps())
    session = held.page.context.new_cdp_session(held.page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    times = []
    for _ in range(3):
        held.page.reload()  # the counters begin anew with every document
        held.page.wait_for_selector("html[data-ready]", timeout=60_000)
        times.append(seconds_of_tasks(session))
    assert held.visible() == 25
    assert "5,088" in held.page.locator(".dt-info").inner_text()
    assert 0.05 < min(times) < 2, times


def seconds_of_tasks(session):
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(held["value"] for held in metrics if held["name"] == "TaskDuration")


def test_a_page_without_the_network_asks_for_nothing(open_report):
    held = open_report(reports.layer_fail(), offline=True)
    assert held.page.evaluate(INK, "#plot") > 500
    # What an injected script would try is refused by the page itself.
    refused = held.page.evaluate("fetch('https://example.org/').then(() => false, () => true)")
    assert refused
    held.complaints.clear()
    held.requests.clear()


@pytest.fixture
def looked_at(browser, tmp_path):
    """Render a report and look at it in a window of a width."""

    def look(report, width: int, **context):
        path = tmp_path / "report.html"
        path.write_text(render_html(report), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, **context)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
        return page

    return look


def test_on_a_failure_the_table_opens_at_the_culprit(looked_at):
    report = reports.layer_fail()
    page = looked_at(report, 1400)
    assert report.culprits[0].tap in page.inner_text("#taps tr.chosen")
    assert report.culprits[0].tap in page.inner_text("#selected")
    assert looked_at(reports.passed(), 1400).query_selector("#taps tr.chosen") is None


@pytest.mark.parametrize("width", [1400, 400])
def test_the_culprits_row_is_inside_of_the_tables_frame_and_the_page_at_its_verdict(
    looked_at, width
):
    """Its place is the last one of a page of the table, which is where it was out of sight."""
    page = looked_at(reports.layer_fail(), width)
    frame, row = (page.locator(held).bounding_box() for held in ("#table-panel", "#taps tr.chosen"))
    assert frame["y"] <= row["y"] and row["y"] + row["height"] <= frame["y"] + frame["height"]
    assert page.evaluate("window.scrollY") == 0


def test_the_plot_has_both_limits_bands_of_modules_and_zooms_by_the_wheel(looked_at):
    page = looked_at(reports.layer_fail(), 1400)
    found = page.evaluate(
        """() => { const held = Bokeh.index.roots ?? [...Bokeh.index];
        const model = [...held].map((v) => v.model).find((m) => m.toolbar?.active_scroll);
        const parts = [...model.center, ...model.above];
        return [model.toolbar.active_scroll.type,
          parts.filter((p) => p.type === "BoxAnnotation").length,
          parts.filter((p) => p.type === "Legend").flatMap((p) => p.items)
            .map((item) => item.label.value ?? String(item.label))]; }"""
    )
    assert found[0] == "WheelZoomTool" and found[1] > 3
    assert {"limit, layer alone", "limit, propagated"} <= set(found[2])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_shows_every_verdict_without_scrolling(looked_at, scheme):
    page = looked_at(reports.layer_fail(), 400, color_scheme=scheme)
    outside = page.evaluate(
        """() => [...document.querySelectorAll("table.plain td > .verdict")].filter((held) => {
        const box = held.getBoundingClientRect();
        return box.left < 0 || box.right > window.innerWidth; }).length"""
    )
    assert outside == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 402


def test_printed_it_has_no_buttons_and_no_dark(looked_at):
    page = looked_at(reports.layer_fail(), 1400, color_scheme="dark")
    page.emulate_media(media="print")
    assert not page.is_visible("button.jump") and not page.is_visible("#theme")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_monitors_page_fits_its_window_and_follows_the_system(browser, tmp_path, width, scheme):
    names = [f"a_signal_with_a_long_name_{number}" for number in range(3)]
    rows = [
        {
            "time": 1e9 + 60 * step,
            "kind": "drift",
            "threshold": 5800,
            "alarms": names[:1] if step > 5 else [],
            "evalues": dict.fromkeys(names, 10.0**step),
        }
        for step in range(8)
    ]
    first = "model.encoder.encoders0.0.self_attn.linear_q_k_v.with.a.very.long.name.indeed"
    rows.append({"time": 1e9 + 900, "kind": "shadow", "state": "moved", "first_layer": first})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "page.html").write_text(page_of(tmp_path / "log.jsonl"), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colour = "getComputedStyle(document.body).backgroundColor"
    assert (page.evaluate(colour) == "rgb(255, 255, 255)") == (scheme == "light")
    drawn = page.locator("polyline").first.bounding_box()
    assert drawn["width"] > width / 2 and drawn["height"] > 20
    page.emulate_media(media="print")
    assert page.evaluate(colour) == "rgb(255, 255, 255)"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_system_fits_a_telephone_and_asks_the_network_for_nothing(
    browser, tmp_path, scheme
):
    found = report(
        graphs=[graph(), graph("fail").model_copy(update={"name": "a_long_name" * 6})],
        calls=[calls(), calls("fail", "a_long_name" * 6, layer="model.layers.0.attention" * 6)],
        results=[result("fail", 1, text="word " * 80, onnx_text="w" * 300)],
    )
    write_system_report(found, tmp_path)
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "system.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("html.dark").count() == (scheme == "dark")
    assert not said and len(asked) == 1
    page.click("#theme")
    assert page.locator("html.dark").count() == (scheme != "dark")
    page.close()
