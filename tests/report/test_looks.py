"""What the page draws: points in the order of the graph, each limit, what a contract broke."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from exporter.judge import layers as judging
from exporter.parity.status import Status, Who
from exporter.parity.verdict import Verdict
from exporter.report.figures import tap_figures
from exporter.report.html import render_html
from exporter.report.payload import payload
from exporter.report.rows import folded_contracts
from exporter.report.schema import GoldenRecord
from exporter.report.terminal import print_report
from tests.support.reports import contract_fail, layer_fail, passed


def interleaved():
    """A report whose first module has its last value at the end of the graph."""
    report = passed()
    at = next(n for n, link in enumerate(report.links) if link.layers)
    link = report.links[at]
    layers = []
    place = 1
    for number, layer in enumerate(link.layers):
        taps = []
        for tap in layer.taps:
            taps.append(tap.model_copy(update={"place": place}))
            place += 1
        if number == 0:
            taps.append(taps[0].model_copy(update={"name": "last_of_all", "place": 10_000}))
            taps[0] = taps[0].model_copy(update={"place": 0})
        layers.append(layer.model_copy(update={"taps": taps}))
    return link.model_copy(update={"layers": layers})


def test_values_come_in_the_order_of_the_graph_not_of_its_modules():
    link = interleaved()
    names = [tap.name for tap in tap_figures(link)]
    assert names[-1] == "last_of_all" and names[0] == link.layers[0].taps[0].name


def test_an_earlier_report_without_places_keeps_its_order():
    link = next(link for link in passed().links if link.layers)
    found = [tap.name for tap in tap_figures(link)]
    assert found == [tap.name for layer in link.layers for tap in layer.taps]


def test_each_series_has_the_limit_that_belongs_to_it():
    taps = payload(layer_fail())["links"][0]["taps"]
    assert len(taps["limit"]) == len(taps["propagated_limit"]) == len(taps["name"])
    assert any(taps["limit"]) and any(taps["propagated_limit"])


def test_a_module_of_which_a_contract_fails_is_told_to_the_tree():
    report = contract_fail()
    held = [c.model_copy(update={"module": "encoder.0"}) for c in report.contracts]
    shown = payload(report.model_copy(update={"contracts": held}))["broken"]
    assert shown and set(shown) == {"encoder.0"}
    good = [c.model_copy(update={"module": "encoder.0"}) for c in passed().contracts]
    assert payload(passed().model_copy(update={"contracts": good}))["broken"] == []


def program():
    """a -> b -> c, and d beside them."""
    chain = {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    ops = [SimpleNamespace(name=n, module="", refs=lambda r=refs: r) for n, refs in chain.items()]
    return SimpleNamespace(ops=ops)


@pytest.mark.parametrize(
    ("broken", "asked"), [("b", {"a", "d"}), ("a", {"d"}), (None, set("abcd"))]
)
def test_a_second_opinion_is_taken_of_what_no_broken_layer_feeds(monkeypatch, broken, asked):
    fails = Verdict(name="x", who=Who.ONNX, status=Status.FAIL, strain=2.0, reason="beyond")
    taken: list[str] = []

    class Opinion:
        def __init__(self, *given):
            pass

        def on(self, name, measured, verdict):
            taken.append(name)
            return measured, verdict

    monkeypatch.setattr(judging, "SecondOpinion", Opinion)
    monkeypatch.setattr(judging, "replace", lambda held, **more: held)
    taps = {
        name: SimpleNamespace(
            propagated=SimpleNamespace(measurement=None, verdict=fails),
            fails_by_itself=name == broken,
        )
        for name in "abcd"
    }
    judging._second_opinion(program(), SimpleNamespace(inputs={}), None, taps)
    assert set(taken) == asked


def test_passing_contracts_are_one_line_and_the_others_have_their_own():
    held = [c for c in passed().contracts if c.verdict == "pass"]
    bad = contract_fail().contracts
    shown, said = folded_contracts([*held, *bad])
    assert shown == [c for c in bad if c.verdict != "pass"] and shown
    assert all(c.name in said for c in held)
    console = Console(width=140, file=io.StringIO())
    print_report(passed(), console=console, output_dir=Path())
    text = console.file.getvalue()
    assert f"{len(passed().contracts)} checks" in text


def what_is_wrong(report) -> str:
    """The section of the page on what is wrong; "" when there is none."""
    _, _, behind = render_html(report).partition('<section id="failed"')
    return behind.partition("</section>")[0]


@pytest.mark.parametrize("word", ["fail", "not run", "ambiguous"])
def test_a_contract_that_is_not_kept_stands_under_what_is_wrong(word):
    report = contract_fail().model_copy(update={"verdict": word})
    bad, *others = report.contracts
    held = [bad.model_copy(update={"verdict": word}), *others]
    shown = what_is_wrong(report.model_copy(update={"contracts": held}))
    assert bad.name in shown and "silence" not in shown


def test_a_doubt_that_is_excused_is_not_wrong():
    report = passed()
    held = [c.model_copy(update={"verdict": "ambiguous"}) for c in report.contracts]
    assert what_is_wrong(report.model_copy(update={"contracts": held})) == ""
    golden = [GoldenRecord(case="english", state="ambiguous", verdict="ambiguous")]
    assert what_is_wrong(report.model_copy(update={"golden": golden})) == ""
