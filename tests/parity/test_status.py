"""Exit codes: 0 only when everything that was declared ran and passed."""

from __future__ import annotations

import pytest

from exporter.parity.status import Status, exit_code, severity, worst

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
    assert exit_code(statuses) == expected


def test_ambiguous_results_pass_within_their_cap_only():
    two = [GOOD, (Status.AMBIGUOUS, True), (Status.AMBIGUOUS, True)]
    assert exit_code(two, ambiguous_cap=2) == 0
    assert exit_code(two, ambiguous_cap=1) == 1


def test_a_culprit_fails_a_run_whose_checks_pass():
    assert exit_code([GOOD], culprits=1) == 1
