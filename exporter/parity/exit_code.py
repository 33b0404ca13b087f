"""Which verdict a run has over many checks, and which exit code that verdict gives.

Errors have exit codes of their own, see :func:`exporter.core.errors.exit_code`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.core.errors import EXIT_PARITY_FAILED, EXIT_PASS
from exporter.parity.status import GOOD, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitDecision:
    """The verdict over many checks and what the process returns: 0 for ``pass``, else 1."""

    status: Status

    @property
    def exit_code(self) -> int:
        """Of the whole process."""
        return EXIT_PASS if self.status is Status.PASS else EXIT_PARITY_FAILED


def decide(
    statuses: Iterable[tuple[Status, bool]],
    *,
    ambiguous: int | None = None,
    ambiguous_cap: int = 0,
) -> ExitDecision:
    """Decide over everything that was declared: the one place from which verdicts of runs come.

    Args:
        statuses: ``(status, required)`` of every declared check. A check that is not required
            may stay ``not run``; it may not fail. ``not applicable`` checks nothing, so a run of
            nothing else has not shown anything.
        ambiguous: how many outputs are ambiguous; ``None`` counts the ambiguous checks. Where a
            check is ambiguous it is at least one.
        ambiguous_cap: how many of them are tolerated.
    """
    known_pairs = list(statuses)
    known = [status for status, _ in known_pairs]
    if Status.FAIL in known:
        return ExitDecision(status=Status.FAIL)
    if (Status.NOT_RUN, True) in known_pairs:
        return ExitDecision(status=Status.NOT_RUN)
    unsure = known.count(Status.AMBIGUOUS)
    if unsure and max(1, unsure if ambiguous is None else ambiguous) > ambiguous_cap:
        return ExitDecision(status=Status.AMBIGUOUS)
    checked = any(status in GOOD or status is Status.AMBIGUOUS for status in known)
    return ExitDecision(status=Status.PASS if checked else Status.NOT_RUN)
