"""Whoever puts a report together, its verdict, exit code and headline come from one place."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from exporter.config.run_options import RunOptions
from exporter.flows.golden_report import golden_report
from exporter.flows.judge import rejudge
from exporter.golden.outcome import CaseOutcome, Changed, CheckOutcome, OutputMove, State
from exporter.report.assemble import build_report, concluded
from exporter.report.environment import describe_environment
from exporter.report.schema import LinkRecord, StoppedRecord
from tests.golden import made

GIVEN = {"words": [], "not_checked": [], "environment": describe_environment(1, ("cpu",))}
PACKAGE = Path(__file__).resolve().parents[2] / "exporter"


def outcome_of(states, *, ambiguous=1, cap=0, environment=False, **changes) -> CheckOutcome:
    moved = OutputMove(name="y", observed=1.0, limit=0.5, reason="moved")
    cases = tuple(
        CaseOutcome(
            case=f"case_{number}",
            state=state,
            outputs=(moved,) if state is State.MOVED else (),
            ambiguous=ambiguous if state is State.AMBIGUOUS else 0,
        )
        for number, state in enumerate(states)
    )
    changed = (Changed(what="numpy", recorded="1", now="2"),) if environment else ()
    numbers = max(states, key=tuple(State).index) if states else None
    held = {"pipeline": "made", "golden": "g", "cases": cases, "numbers": numbers}
    return CheckOutcome(**{**held, "environment": changed, "max_ambiguous": cap, **changes})


OUTCOMES = [
    outcome_of(states, ambiguous=ambiguous, cap=cap, environment=environment)
    for states in itertools.product([s for s in State if s is not State.TAMPERED], repeat=2)
    for ambiguous, cap in ((1, 0), (1, 1), (3, 2), (2, 4))
    for environment in (False, True)
] + [
    outcome_of(()),
    outcome_of((), problem=State.MISSING, reason="there is none"),
    outcome_of((), problem=State.TAMPERED, reason="changed"),
]


@pytest.fixture
def of(tmp_path):
    pipeline = made.pipeline(tmp_path)

    def report(outcome: CheckOutcome):
        parity = pipeline.parity.model_copy(update={"max_ambiguous": outcome.max_ambiguous})
        return golden_report(pipeline.model_copy(update={"parity": parity}), outcome, RunOptions())

    return report


def test_the_report_of_a_golden_returns_what_its_check_returns(of):
    for outcome in OUTCOMES:
        report = of(outcome)
        assert report.exit_code == outcome.exit_code, outcome
        assert (report.verdict == "pass") == (outcome.exit_code == 0), outcome
        # Whoever reads it later, or changes a part of it, comes to the same.
        assert concluded(report, report.headline) == report
        assert rejudge(report).exit_code == report.exit_code


def test_large_outputs_that_no_list_names_count_against_the_cap(of):
    hidden = outcome_of((State.AMBIGUOUS,), ambiguous=3, cap=2)
    assert of(hidden).exit_code == hidden.exit_code == 1
    within = outcome_of((State.AMBIGUOUS,), ambiguous=2, cap=2)
    assert of(within).exit_code == within.exit_code == 0


def test_nothing_at_all_is_no_pass(tmp_path):
    report = build_report(made.pipeline(tmp_path), **GIVEN)
    assert (report.verdict, report.exit_code) == ("not run", 1)


def test_a_part_that_no_report_has_is_refused(tmp_path):
    with pytest.raises(ValueError, match="culprit"):
        build_report(made.pipeline(tmp_path), **GIVEN, culprit=[])


def test_layers_that_are_required_and_were_not_compared_fail(tmp_path):
    link = LinkRecord(name="a -> b", expected="a", actual="b", verdict="pass")
    given = {**GIVEN, "links": [link]}
    pipeline = made.pipeline(tmp_path)
    assert build_report(pipeline, **given).exit_code == 0
    failed = build_report(pipeline, **given, layers="required")
    assert failed.exit_code == 1 and failed.headline.startswith("outputs only")
    walked = {**given, "links": [link.model_copy(update={"compared": 3})]}
    assert build_report(pipeline, **walked, layers="required").exit_code == 0


def test_a_stop_is_the_headline(tmp_path):
    report = build_report(
        made.pipeline(tmp_path),
        **GIVEN,
        stopped=StoppedRecord(stage="export", detail="\n  no such op\nmore", where="m.py:3"),
    )
    assert report.headline == "stage 'export' stopped at m.py:3: no such op"
    assert (report.verdict, report.exit_code) == ("fail", 1)


def test_only_the_builder_makes_reports():
    maker = re.compile(r"(?<![\w.])Report\(")
    found = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if any(
            maker.search(line) and not line.startswith("class ")
            for line in path.read_text(encoding="utf-8").splitlines()
        )
    ]
    assert found == ["report/assemble.py"]
