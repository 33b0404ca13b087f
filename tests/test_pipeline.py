"""The whole run on real speech: how it ends, and what it leaves behind."""

from __future__ import annotations

from tests.support.tiny_run import CASES, TinyRun


def test_a_clean_run_exits_0_and_says_pass(tiny_run: TinyRun):
    assert tiny_run.code == 0
    assert tiny_run.report.verdict == "pass"
    assert "PASS" in tiny_run.out


def test_the_report_holds_every_link_and_every_case(tiny_run: TinyRun):
    report = tiny_run.report
    threads = report.environment.threads
    assert [link.name for link in report.links] == [
        "eager -> captured",
        "captured -> exported",
        "exported -> simplified",
        "layers: captured -> simplified",
        f"simplified -> cpu/all/{threads} thread(s)",
    ]
    assert {link.verdict for link in report.links} == {"pass"}
    assert tuple(case.name for case in report.cases) == CASES
    assert report.culprits == []
