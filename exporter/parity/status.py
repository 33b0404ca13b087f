"""The one vocabulary of verdicts: what was found, who is wrong, and what the process returns."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from exporter.errors import EXIT_PARITY_FAILED, EXIT_PASS


class Status(StrEnum):
    """What a check found. Only ``PASS`` and ``EMPTY_AS_DECLARED`` are good by themselves."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    AMBIGUOUS = "ambiguous"
    NOT_RUN = "not run"
    NOT_APPLICABLE = "not applicable"
    EMPTY_AS_DECLARED = "empty as declared"


class Who(StrEnum):
    """Whose numbers are wrong, with float64 as the judge."""

    ONNX = "onnx"
    PYTORCH = "pytorch"
    BOTH_WITHIN_ROUNDING = "both within rounding"
    UNKNOWN = "unknown"


# From harmless to serious. An ambiguous result may be tolerated within a cap, a required check
# that was not run never is; a failure that was seen tells the reader more than either.
SEVERITY: tuple[Status, ...] = (
    Status.NOT_APPLICABLE,
    Status.EMPTY_AS_DECLARED,
    Status.PASS,
    Status.AMBIGUOUS,
    Status.NOT_RUN,
    Status.FAIL,
)


def severity(status: Status) -> int:
    """Return the rank of ``status``: larger is worse."""
    return SEVERITY.index(status)


def worst(statuses: Iterable[Status]) -> Status:
    """Return the most serious status; no status at all is ``NOT_RUN``, never a pass."""
    return max(statuses, key=severity, default=Status.NOT_RUN)


def exit_code(
    statuses: Iterable[tuple[Status, bool]],
    *,
    ambiguous_cap: int = 0,
    culprits: int = 0,
) -> int:
    """Return 0 when everything that was declared ran and passed, else 1.

    Args:
        statuses: ``(status, required)`` of every declared check. A check that is not required
            may stay ``not run``; it may not fail. ``not applicable`` checks nothing, so a run of
            nothing else has not shown anything.
        ambiguous_cap: how many ambiguous checks are tolerated.
        culprits: how many culprits a debugging run still sees.

    Exits 2 and 3 belong to errors, see :func:`exporter.errors.exit_code`.
    """
    ambiguous, checked = 0, 0
    for status, required in statuses:
        if status is Status.FAIL or (status is Status.NOT_RUN and required):
            return EXIT_PARITY_FAILED
        ambiguous += status is Status.AMBIGUOUS
        checked += status in (Status.PASS, Status.EMPTY_AS_DECLARED, Status.AMBIGUOUS)
    good = checked > 0 and ambiguous <= ambiguous_cap and culprits == 0
    return EXIT_PASS if good else EXIT_PARITY_FAILED
