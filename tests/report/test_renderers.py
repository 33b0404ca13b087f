"""Every renderer on every kind of report: nothing breaks, nothing gets out, nothing grows."""

import io
import json
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from exporter.report import safe_text as names_module
from exporter.report.findings import findings
from exporter.report.html import render_html
from exporter.report.junit import render_junit
from exporter.report.markdown import render_markdown
from exporter.report.overlay import render_overlay
from exporter.report.payload import MAX_TAPS, payload, script_json
from exporter.report.terminal import print_report
from exporter.report.write import write_renderings
from tests.support import reports

KINDS = sorted(reports.KINDS)
ESCAPES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MAX_HTML, MAX_MARKDOWN = 6_000_000, 60_000
GITHUB = MarkdownIt("gfm-like", {"linkify": False, "html": True})
names = st.one_of(st.sampled_from(reports.HOSTILE), st.text(min_size=1, max_size=60))


@pytest.fixture(scope="module")
def large():
    return reports.many_taps()


def printed(report, width=100, **options):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False, highlight=False)
    print_report(report, console, **options)
    return stream.getvalue()


class Tags(HTMLParser):
    """Elements of a page, and the attributes that could run or load something."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.loads, self.handlers, self.text = [], [], [], ""

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for key, value in attributes:
            if key in ("src", "href", "action", "srcset") and not value.startswith("#"):
                self.loads.append((tag, value))
            if key.startswith("on"):
                self.handlers.append((tag, key, value))


def tags_of(page):
    parser = Tags()
    parser.feed(page)
    return parser


def check_all(report):
    """Render everything and check what must hold of any report at all."""
    for width in (20, 60, 200):
        assert not ESCAPES.search(printed(report, width, verbose=width == 200))
    findings(report)

    text = render_markdown(report)
    assert len(text.encode()) < MAX_MARKDOWN
    assert not ESCAPES.search(text)
    # What GitHub would make of it: nothing but the elements that the report itself writes.
    made = tags_of(GITHUB.render(text))
    allowed = (
        "h2 h3 p strong em ul ol li table thead tbody tr th td code details summary blockquote"
    )
    assert set(made.tags) <= set(allowed.split())
    assert not made.loads and not made.handlers

    page = render_html(report)
    assert len(page.encode()) < MAX_HTML
    body = re.sub(r"(?s)<script\b.*?</script>|<style>.*?</style>", "", page)
    assert not ESCAPES.search(body.replace("\t", ""))
    made = tags_of(body)
    assert not {"script", "iframe", "object", "embed", "img", "base"} & set(made.tags)
    assert not made.handlers
    assert set(made.loads) <= {("link", "data:,")}
    held = re.search(r'(?s)<script type="application/json" id="data">(.*?)</script>', page)
    assert held and "<" not in held[1]
    json.loads(held[1], parse_constant=refuse)

    root = ElementTree.fromstring(render_junit(report))
    assert int(root[0].attrib["tests"]) == len(root[0]) > 0
    json.loads(render_overlay(report), parse_constant=refuse)


def refuse(word):
    raise AssertionError(f"{word} is not JSON")


@pytest.mark.parametrize("kind", KINDS)
def test_every_renderer_takes_every_kind_of_report(kind):
    check_all(reports.KINDS[kind]())


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(names)
def test_any_name_is_shown_and_does_nothing(name):
    check_all(reports.with_names(name))
    check_all(reports.stopped(name))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(st.none(), st.floats()), min_size=9, max_size=9), st.floats())
def test_any_figures_are_shown(values, scale):
    check_all(reports.figures(values, scale))


@settings(max_examples=300)
@given(names)
@example("1. one")
@example("- - x")
@example("+ x")
@example("# title")
@example("> quote")
@example("***bold*** ~~gone~~ `code` [a](b) ![c](d) <b>e</b> &amp; | f")
@example("_a_ __b__ snake_case _")
@example("1) x")
@example("=== ---")
def test_markdown_shows_a_name_as_it_is(name):
    shown = names_module.printable(name)
    for made in (
        tags_of(GITHUB.render(names_module.markdown(name))),
        tags_of(GITHUB.render(f"| |\n| --- |\n| {names_module.code(name)} |")),
        tags_of(GITHUB.render(f"- {names_module.markdown(name)}")),
    ):
        assert made.text.split() == shown.split()
        assert set(made.tags) <= set("p ul li table thead tbody tr th td code".split())


def test_names_notify_nobody_and_link_nowhere():
    shown = names_module.markdown("@someone #12 GH-12 https://example.org www.example.org :tada:")
    assert not re.search(r"@\w|#\d|GH-\d|://|www\.|:tada:", shown)


def test_five_thousand_taps_fit(large):
    assert sum(len(layer.taps) for layer in large.links[1].layers) > 5000
    check_all(large)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 60), st.integers(0, 200), st.integers(0, 3000), st.integers(0, 100), st.data()
)
def test_markdown_stays_below_its_limit(links, contracts, culprits, lines, data):
    name = data.draw(names) * 20
    report = reports.with_names(name)
    report = report.model_copy(
        update={
            "links": report.links * links,
            "contracts": report.contracts * contracts,
            "culprits": report.culprits * culprits,
            "golden": report.golden * contracts,
            "outputs": report.outputs * links,
            "structure": report.structure * culprits,
            "not_checked": [name] * lines,
            "notes": [name] * lines,
            "artifacts": report.artifacts * (lines * 10),
        }
    )
    text = render_markdown(report)
    assert len(text.encode()) < MAX_MARKDOWN
    assert text.count("<details>") == text.count("</details>")
    if culprits > 40:
        assert "more in `report.json`" in text


def test_what_does_not_fit_into_the_page_is_counted_there():
    layer = reports.layers(1)[:1]
    many = [layer[0].model_copy(update={"taps": layer[0].taps * (MAX_TAPS + 10)})]
    report = reports.base(
        links=[reports.link("a", "x", "y", layers=many), reports.link("b", "x", "y", layers=layer)]
    )
    left = payload(report)["left_out"]
    assert "10 of" in left[0] and "'b'" in left[1]
    page = render_html(report)
    assert "Left out of this page" in page and len(page.encode()) < MAX_HTML


def test_the_worst_taps_are_kept_when_not_all_fit():
    report = reports.layer_fail(blocks=2)
    layer = report.links[2].layers
    padding = layer[0].model_copy(update={"taps": layer[0].taps * MAX_TAPS})
    report = report.model_copy(
        update={"links": [report.links[2].model_copy(update={"layers": [padding, *layer]})]}
    )
    data = payload(report)
    verdicts = {data["words"][i] for i in data["links"][0]["taps"]["verdict"]}
    assert "fail" in verdicts


def test_numbers_that_are_not_finite_are_words_in_the_page():
    text = script_json(payload(reports.not_finite()))
    assert '"NaN"' in text and '"Inf"' in text
    assert "Infinity" not in text


def test_nothing_measured_is_null_in_the_page():
    columns = payload(reports.layer_fail(taps=2))["links"][0]["taps"]
    fused = [i for i, into in enumerate(columns["into"]) if into]
    assert fused and all(columns["local"][i] is None for i in fused)


# What the first screen says, for each way in which a run can fail.


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("stage fail", ["stage 'simplify'", "Repair the stage", "Not run", "deployed"]),
        ("stopped", ["stage 'capture' stopped at enc.py:7", "take no decision", "again: export"]),
        ("layer fail", ["feed_forward.w_2", "340 times", "debug", "w_2.weight"]),
        ("contract fail", ["causality", "layers.3.conv", "pad this convolution"]),
        ("golden fail", ["golden 'english' moved", "vad.lstm", "run the recorded versions"]),
    ],
)
def test_the_head_of_every_report_says_what_is_wrong_and_what_to_do(kind, said):
    report = reports.KINDS[kind]()
    panel = " ".join(printed(report, 300, quiet=True).split())
    page = render_html(report)
    head = re.search(r"(?s)<header.*?</header>", page)
    assert head
    shown = re.sub(r"<[^>]+>", " ", head[0]).replace("&#39;", "'").replace("&gt;", ">")
    markdown = render_markdown(report).split("### ")[0].replace("\\", "").replace("<!-- -->", "")
    for words in said:
        assert words.lower() in panel.lower(), words
        assert words.lower() in shown.lower(), words
        assert words.lower() in markdown.lower(), words


def test_seeded_weights_are_said_loudly_and_real_ones_are_not():
    report = reports.passed()
    pipeline = report.pipeline
    real = report.model_copy(
        update={
            "pipeline": pipeline.model_copy(
                update={"weights": pipeline.weights.model_copy(update={"seeded": False})}
            )
        }
    )
    for render in (printed, render_markdown, render_html):
        assert "SEEDED" in render(report)
        assert "SEEDED" not in render(real)


def test_not_checked_stands_in_every_report():
    report = reports.base(not_checked=["the moon"])
    for render in (printed, render_markdown, render_html):
        assert "the moon" in render(report)


# Terminal


def test_a_terminal_table_has_the_ten_worst_layers(large):
    lines = [line for line in printed(large, 120).splitlines() if "┃" in line]
    assert len(lines) == 10
    assert "feed_forward.w_2" in lines[0] and "fail" in lines[0]


def test_quiet_prints_the_verdict_alone():
    text = printed(reports.layer_fail(), quiet=True)
    assert "FAIL" in text and "worst layers" not in text


def test_lines_fit_a_narrow_terminal():
    text = printed(reports.layer_fail(), 60)
    made = text.index("made\n")
    lines = [line.rstrip() for line in text[:made].splitlines()]
    commands = [line for line in lines if line.startswith("-> ")]
    assert commands  # for copying: never folded
    assert max(len(line) for line in lines if line not in commands) <= 60


def test_no_color_means_no_escapes(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    print_report(reports.layer_fail(), Console(file=stream, force_terminal=True, width=100))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", stream.getvalue())


def test_a_terminal_without_unicode_gets_ascii():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report = reports.layer_fail()
    print_report(report, Console(file=stream, width=100, highlight=False))
    stream.flush()
    assert b"######" in stream.buffer.getvalue()


def test_markup_in_a_name_is_not_interpreted():
    assert "[bold red]rich markup[/]" in printed(reports.with_names("[bold red]rich markup[/]"))


# JUnit


def junit(report):
    return ElementTree.fromstring(render_junit(report))[0]


def test_junit_counts_what_failed():
    suite = junit(reports.layer_fail())
    assert suite.attrib["failures"] == "4"  # two links, the culprit, the headline
    names = [case.attrib["name"] for case in suite if case.find("failure") is not None]
    assert any("feed_forward.w_2" in name for name in names)


def test_junit_of_a_pass_has_no_failure():
    suite = junit(reports.passed())
    assert suite.attrib["failures"] == suite.attrib["errors"] == "0"
    assert len(suite) == 6


def test_junit_of_nothing_is_an_error():
    assert junit(reports.empty()).attrib["errors"] == "1"


def test_junit_shows_a_stage_that_did_not_run_as_an_error():
    suite = junit(reports.stage_fail())
    assert int(suite.attrib["errors"]) == 3


def test_a_verdict_that_no_check_explains_is_still_red_in_junit():
    suite = junit(reports.base(verdict="ambiguous"))
    assert int(suite.attrib["failures"]) > 0


def test_an_ambiguous_link_within_the_cap_is_green_in_junit():
    links = [reports.link("deployed", "x", "y", "ambiguous", reason="2 ambiguous")]
    assert junit(reports.base(links=links)).attrib["failures"] == "0"
    assert junit(reports.base(links=links, verdict="ambiguous")).attrib["failures"] != "0"


# Overlay


def test_the_overlay_colours_the_culprit_alone():
    report = reports.layer_fail()
    data = json.loads(render_overlay(report))
    red = [name for name, held in data["results"].items() if "bgColor" in held]
    guilty = [t.name for t in worst(report) if t.verdict == "fail"]
    assert red == guilty and len(red) == 1
    assert data["results"][red[0]]["value"] > 1


def test_the_overlay_leaves_out_what_was_not_measured_and_keeps_nan_on_top():
    values = json.loads(render_overlay(reports.not_finite()))["results"].values()
    assert max(held["value"] for held in values) == 1e30
    assert all(math.isfinite(held["value"]) for held in values)
    report = reports.passed()
    layers = report.links[1].layers
    bare = layers[0].taps[0].model_copy(update={"local": None, "local_verdict": None})
    layers = [layers[0].model_copy(update={"taps": [bare]}), *layers[1:]]
    results = json.loads(
        render_overlay(reports.base(links=[reports.link("a", "x", "y", layers=layers)]))
    )["results"]
    assert bare.name not in results and len(results) == 32


def worst(report):
    from exporter.report.figures import worst_taps

    return worst_taps(report, 1000)


def test_renderings_replace_each_other_and_leave_no_parts(tmp_path):
    for report in (reports.passed(), reports.layer_fail()):
        paths = write_renderings(report, tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)
    assert "FAIL" in (tmp_path / "report.html").read_text()
