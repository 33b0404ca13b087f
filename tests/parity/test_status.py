"""Exit codes: 0 only when everything that was declared ran and passed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.parity.exit_code import decide
from exporter.parity.status import (
    Status,
    holds,
    is_differing,
    is_failing,
    is_good,
    needs_a_word,
    severity,
    status_of,
    worst,
)

GOOD = (Status.PASS, True)


def test_the_worst_status_counts():
    assert worst([Status.PASS, Status.FAIL, Status.AMBIGUOUS]) is Status.FAIL
    assert worst([Status.NOT_APPLICABLE, Status.PASS]) is Status.PASS
    assert worst([Status.AMBIGUOUS, Status.NOT_RUN]) is Status.NOT_RUN


def test_no_status_at_all_is_not_a_pass():
    assert worst([]) is Status.NOT_RUN


def test_every_status_has_a_rank():
    assert sorted(severity(s) for s in Status) == list(range(len(Status)))


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([GOOD], 0),
        ([GOOD, (Status.EMPTY_AS_DECLARED, True)], 0),
        ([GOOD, (Status.NOT_APPLICABLE, True)], 0),
        ([GOOD, (Status.FAIL, True)], 1),
        ([GOOD, (Status.FAIL, False)], 1),
        ([GOOD, (Status.NOT_RUN, True)], 1),
        ([GOOD, (Status.NOT_RUN, False)], 0),
        ([GOOD, (Status.AMBIGUOUS, True)], 1),
        ([], 1),
        ([(Status.NOT_APPLICABLE, True)], 1),
        ([(Status.NOT_RUN, False)], 1),
    ],
)
def test_the_exit_code_of(statuses, expected):
    assert decide(statuses).exit_code == expected


def test_ambiguous_results_pass_within_their_cap_only():
    two = [GOOD, (Status.AMBIGUOUS, True), (Status.AMBIGUOUS, True)]
    assert decide(two, ambiguous_cap=2).exit_code == 0
    assert decide(two, ambiguous_cap=1).exit_code == 1


def test_outputs_are_counted_and_not_the_checks_that_they_stand_in():
    held = [GOOD, (Status.AMBIGUOUS, True)]
    assert decide(held, ambiguous=100, ambiguous_cap=99).status is Status.AMBIGUOUS
    assert decide(held, ambiguous=100, ambiguous_cap=100).status is Status.PASS
    assert decide(held, ambiguous=0, ambiguous_cap=0).status is Status.AMBIGUOUS


def test_the_cap_does_not_cover_what_was_not_run_or_failed():
    unsure = (Status.AMBIGUOUS, True)
    assert decide([unsure, (Status.NOT_RUN, True)], ambiguous_cap=5).status is Status.NOT_RUN
    assert decide([unsure, (Status.FAIL, False)], ambiguous_cap=5).status is Status.FAIL


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("required", [True, False])
def test_verdict_and_exit_code_never_contradict(status: Status, required: bool):
    found = decide([(Status.PASS, True), (status, required)])
    assert (found.exit_code == 0) is (found.status is Status.PASS)
    assert (found.exit_code == 0) is holds(status, required=required)


def test_a_word_that_nobody_knows_is_a_failure():
    assert status_of("splendid") is Status.FAIL
    assert severity("splendid") == severity(Status.FAIL)


def sets_of_statuses(path: Path) -> Iterator[str]:
    """Collections in which two or more statuses are named, by their word or by the enum."""
    words = {status.value for status in Status}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Set) or (
            isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn)
        ):
            held = node if isinstance(node, ast.Set) else node.comparators[0]
            items = held.elts if isinstance(held, ast.Set | ast.Tuple | ast.List) else []
            named = [
                item
                for item in items
                if (isinstance(item, ast.Constant) and item.value in words)
                or ast.unparse(item).startswith("Status.")
            ]
            if len(named) > 1:
                yield f"{path.name}:{node.lineno}: {ast.unparse(held)}"


def test_sets_of_statuses_are_named_in_one_place(tmp_path: Path):
    package = Path(__file__).resolve().parents[2] / "exporter"
    spelled = [
        found
        for path in sorted(package.rglob("*.py"))
        if path != package / "parity" / "status.py"
        for found in sets_of_statuses(path)
    ]
    assert spelled == []
    for text in (
        'x = v in ("fail", "not run")',
        "x = v not in {Status.PASS, Status.FINDING}",
        'X = frozenset({"pass", "ambiguous"})',
    ):
        (tmp_path / "one.py").write_text(text)
        assert list(sets_of_statuses(tmp_path / "one.py")), text


def test_what_differs_what_fails_and_what_is_told_never_hide_a_failure():
    for word in (*Status, "splendid"):
        bad = not holds(word, ambiguous_excused=True)
        assert is_failing(word) is bad
        assert not bad or needs_a_word(word)
        assert not (is_good(word) and (is_differing(word) or needs_a_word(word)))
    assert is_differing(Status.AMBIGUOUS)
    assert needs_a_word(Status.AMBIGUOUS)
