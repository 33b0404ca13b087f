"""The verdict of a system: what was not shown never passes, and nothing hides a failure."""

from __future__ import annotations

import pytest

from exporter.report.comparison import VerdictRecord
from exporter.report.environment import describe_environment
from exporter.report.system import (
    CallsRecord,
    DifferenceRecord,
    ErrorsRecord,
    GraphRecord,
    ManifestRecord,
    ResultRecord,
    SystemReport,
)
from exporter.report.system_text import print_system, system_markdown, write_system_report
from exporter.report.system_verdict import concluded_system


def verdict(word: str, **more) -> VerdictRecord:
    return VerdictRecord(verdict=word, **more)


def graph(word: str = "pass", calls: int = 3, **more) -> GraphRecord:
    given = {"name": "decoder", "pipeline": "p", "exit_code": 0, "headline": "", "folder": "d"}
    return GraphRecord(**given, verdict=word, calls=calls, **more)


def calls(word: str = "pass", graph: str = "decoder", **more) -> CallsRecord:
    given = {"case": "one", "graph": graph, "output": "y", "link": "a -> b", "calls": 3}
    return CallsRecord(**given, verdict=verdict(word, strain=0.5), worst_call=1, **more)


def manifest(word: str, verdicts: dict[str, int]) -> ManifestRecord:
    count = sum(verdicts.values())
    given = {"file": "m.jsonl", "utterances": count, "done": count, "buckets": []}
    return ManifestRecord(**given, verdict=verdict(word), verdicts=verdicts)


def errors(count: int, length: int) -> ErrorsRecord:
    return ErrorsRecord(
        unit="token",
        substitutions=count,
        deletions=0,
        insertions=0,
        length=length,
        rate=count / length,
        alignment="REF: 1 2\nHYP: 1 3" if count else "",
    )


def result(word: str = "pass", count: int = 0, **more) -> ResultRecord:
    given = {"case": "one", "deployment": "cpu", "errors": [errors(count, 10)]}
    return ResultRecord(**{**given, **more}, verdict=verdict(word))


def report(**parts) -> SystemReport:
    given = {
        "tool_version": "0",
        "name": "both",
        "file": "both.yaml",
        "digest": "",
        "driver": {"kind": "chain"},
        "verdict": "not run",
        "exit_code": 1,
        "headline": "",
        "environment": describe_environment(1, ("cpu",)),
        "graphs": [graph()],
        "calls": [calls()],
        "results": [result()],
        "max_token_error_rate": 0.0,
        "max_ambiguous": 0,
        "timings": {},
    }
    return concluded_system(SystemReport(**{**given, **parts}))


def test_what_was_shown_passes():
    found = report()
    assert (found.verdict, found.exit_code) == ("pass", 0)


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ({"graphs": [graph("fail")]}, "fail"),
        ({"graphs": [graph("not run")]}, "not run"),
        ({"graphs": [graph("ambiguous")]}, "ambiguous"),
        ({"graphs": [graph(), graph(calls=0)]}, "not run"),
        ({"calls": [calls("fail")]}, "fail"),
        ({"calls": [calls("ambiguous")]}, "ambiguous"),
        ({"results": [result("fail", 1)]}, "fail"),
        ({"results": [result("not run")]}, "not run"),
        ({"results": [result("ambiguous", 1)]}, "ambiguous"),
        ({"results": [result("empty as declared")]}, "not run"),
        ({"results": []}, "not run"),
        ({"results": [result("green")]}, "fail"),
        ({"results": [], "calls": [], "graphs": [graph(calls=0)]}, "not run"),
    ],
)
def test_what_is_not_green_stays_so(parts, word):
    found = report(**parts)
    assert found.verdict == word and found.exit_code == 1
    assert found.headline


def test_an_empty_hypothesis_beside_others_is_counted_apart():
    assert report(results=[result(), result("empty as declared")]).verdict == "pass"


@pytest.mark.parametrize(
    ("rate", "count", "word"), [(0.0, 1, "fail"), (0.1, 1, "pass"), (0.1, 2, "fail")]
)
def test_a_declared_rate_lets_tokens_differ(rate, count, word):
    found = report(max_token_error_rate=rate, results=[result("fail", count)])
    assert found.verdict == word
    assert found.results[0].verdict.verdict == ("finding" if word == "pass" else "fail")


def test_a_rate_excuses_no_number_and_no_call():
    wrong = result("fail", 1, outputs={"v.audio": verdict("fail")})
    assert report(max_token_error_rate=0.5, results=[wrong]).verdict == "fail"
    assert report(max_token_error_rate=0.5, results=[result("fail", 0)]).verdict == "fail"
    held = report(max_token_error_rate=0.5, results=[result("fail", 1)], calls=[calls("fail")])
    assert held.verdict == "fail"


def test_ambiguous_results_pass_within_the_declared_number():
    held = [result("ambiguous", 1), result()]
    assert report(results=held, max_ambiguous=1).verdict == "pass"
    assert report(results=[*held, result("ambiguous", 1)], max_ambiguous=1).verdict == "ambiguous"


def test_what_was_beyond_a_cap_of_its_own_is_excused_by_no_other():
    held = manifest("ambiguous", {"ambiguous": 5, "pass": 1})
    assert report(manifest=held, max_ambiguous=5).verdict == "ambiguous"
    assert report(graphs=[graph("ambiguous")], max_ambiguous=5).verdict == "ambiguous"


def test_all_that_is_in_doubt_counts_together():
    held = manifest("pass", {"ambiguous": 1, "pass": 1})
    assert report(manifest=held, max_ambiguous=1).verdict == "pass"
    both = {"manifest": held, "results": [result("ambiguous", 1)]}
    assert report(**both, max_ambiguous=1).verdict == "ambiguous"
    assert report(**both, max_ambiguous=2).verdict == "pass"
    other = calls("ambiguous", graph="encoder")
    doubt = {"calls": [calls("ambiguous"), other], "results": [result("ambiguous", 1)]}
    graphs = [graph(), graph().model_copy(update={"name": "encoder"})]
    assert report(**doubt, graphs=graphs, max_ambiguous=1).verdict == "ambiguous"
    assert report(**doubt, graphs=graphs, max_ambiguous=2).verdict == "pass"


def test_a_graph_of_which_no_call_was_judged_is_not_shown():
    graphs = [graph(), graph().model_copy(update={"name": "encoder"})]
    found = report(graphs=graphs)
    assert found.verdict == "not run" and "encoder" in found.headline


@pytest.mark.parametrize("word", ["fail", "not run", "ambiguous"])
def test_a_manifest_decides_too(word):
    held = ManifestRecord(
        file="m.jsonl", utterances=2, done=2, verdict=verdict(word), verdicts={}, buckets=[]
    )
    assert report(manifest=held).verdict == word


def test_the_report_is_written_and_printed_with_hostile_names(tmp_path, capsys):
    difference = DifferenceRecord(
        number=3,
        what="token",
        at=3,
        graph="a|b",
        expected=[1],
        actual=[2],
        margin=0.5,
        noise=1e-6,
        tie=False,
        reason="beyond",
    )
    found = report(
        results=[
            result("fail", 1, case="<b>\x1b[31m", text="a|b", differences=[difference]),
            result(case="two", text="said", cosine=0.5),
        ],
        calls=[calls("fail", layer="x [y]"), calls()],
    )
    write_system_report(found, tmp_path)
    assert SystemReport.model_validate_json((tmp_path / "system.json").read_text()) == found
    page = (tmp_path / "system.html").read_text("utf-8")
    assert "<b>" not in page and "\x1b" not in page and "REF: 1 2\nHYP: 1 3" in page
    assert "http" not in page.replace("http-equiv", "") and "src=" not in page
    text = system_markdown(found)
    assert "<b>" not in text and "\x1b" not in text and "HYP: 1 3" in text
    print_system(found, folder=tmp_path)
    assert "\x1b[31m" not in capsys.readouterr().out
