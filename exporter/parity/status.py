"""The one vocabulary of verdicts: what was found, how serious it is, and who is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Status(StrEnum):
    """What a check found. Only those in ``GOOD`` are good by themselves.

    ``FINDING`` is worth knowing and fails nothing: a kernel loses digits inside, the graph is
    right, and no decision and no output leaves its limit.
    """

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    AMBIGUOUS = "ambiguous"
    FINDING = "finding"
    NOT_RUN = "not run"
    NOT_APPLICABLE = "not applicable"
    EMPTY_AS_DECLARED = "empty as declared"


class Who(StrEnum):
    """Whose numbers are wrong, with float64 as the judge."""

    ONNX = "onnx"
    PYTORCH = "pytorch"
    KERNEL = "kernel"
    BOTH_WITHIN_ROUNDING = "both within rounding"
    UNKNOWN = "unknown"


# From harmless to serious. An ambiguous result may be tolerated within a cap, a required check
# that was not run never is; a failure that was seen tells the reader more than either.
SEVERITY: tuple[Status, ...] = (
    Status.NOT_APPLICABLE,
    Status.EMPTY_AS_DECLARED,
    Status.PASS,
    Status.FINDING,
    Status.AMBIGUOUS,
    Status.NOT_RUN,
    Status.FAIL,
)
GOOD = frozenset({Status.PASS, Status.FINDING, Status.EMPTY_AS_DECLARED})
"""What is good by itself; everything else needs an excuse."""
FAILING = frozenset({Status.FAIL, Status.NOT_RUN})
"""What no cap excuses."""
DIFFERING = frozenset({Status.FAIL, Status.AMBIGUOUS})
"""What was compared and is beyond its limit, whether a decision in doubt explains it or not."""
BEYOND_BY_ITSELF = frozenset({Status.FAIL, Status.FINDING})
"""What makes a layer a culprit, or a layer in which a kernel loses digits."""
JUDGED = frozenset({Status.PASS, Status.FAIL, Status.AMBIGUOUS})
"""What a comparison comes to; anything else has compared nothing, or says more than the values."""
EXCUSED = frozenset({Status.AMBIGUOUS, Status.FINDING})
"""What is beyond its limit, for a reason that is none of the file's."""


def status_of(word: str) -> Status:
    """The status that a saved word stands for; a word that nobody knows is a failure."""
    try:
        return Status(word)
    except ValueError:
        return Status.FAIL


def severity(status: Status | str) -> int:
    """Return the rank of ``status``: larger is worse."""
    return SEVERITY.index(status_of(status))


def worst(statuses: Iterable[Status]) -> Status:
    """Return the most serious status; no status at all is ``NOT_RUN``, never a pass."""
    return max(statuses, key=severity, default=Status.NOT_RUN)


def is_good(status: Status | str) -> bool:
    """True for what shows that something is right, or empty as the case declares."""
    return status_of(status) in GOOD


def is_failing(status: Status | str) -> bool:
    """True for what no cap excuses."""
    return status_of(status) in FAILING


def is_differing(status: Status | str) -> bool:
    """True for what was compared and is beyond its limit, excused by a decision in doubt or not."""
    return status_of(status) in DIFFERING


def needs_a_word(status: Status | str) -> bool:
    """True for what a reader has to be told of: everything from ``ambiguous`` up."""
    return severity(status) >= severity(Status.AMBIGUOUS)


def holds(status: Status | str, *, required: bool = True, ambiguous_excused: bool = False) -> bool:
    """True for what may stand in a run that passes.

    Args:
        required: False lets ``not run`` stand. Nothing lets a failure stand.
        ambiguous_excused: the run as a whole stays within the declared cap.
    """
    known = status_of(status)
    excused = {
        Status.NOT_RUN: not required,
        Status.AMBIGUOUS: ambiguous_excused,
        Status.NOT_APPLICABLE: True,
    }
    return known in GOOD or excused.get(known, False)
