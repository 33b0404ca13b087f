"""A judged tap: what was measured of it in both ways, and the verdicts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from exporter.graph.taps import PlannedTap
from exporter.parity.cause import Opinion
from exporter.parity.compare import worse
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status, severity, worst
from exporter.parity.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One measurement with its verdict and the case it comes from.

    ``opinion``, of a layer that fails by itself: whether graph or kernel is to blame.
    """

    measurement: Measurement
    verdict: Verdict
    case: str
    opinion: Opinion | None = None

    @property
    def fails(self) -> bool:
        return self.verdict.status is Status.FAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedTap:
    """A tap and its figures, of one case or the worst of several; None where not compared.

    ``local`` is the error that the layer makes by itself, ``propagated`` what arrives there in a
    free run.
    """

    planned: PlannedTap
    local: Judgement | None = None
    propagated: Judgement | None = None

    @property
    def status(self) -> Status:
        """The more serious of the two; a tap that was not compared was not run."""
        return worst(j.verdict.status for j in self.both)

    @property
    def both(self) -> tuple[Judgement, ...]:
        """The judgements that there are."""
        return tuple(j for j in (self.local, self.propagated) if j is not None)

    @property
    def fails_by_itself(self) -> bool:
        return self.local is not None and self.local.fails

    def or_worse(self, other: JudgedTap) -> JudgedTap:
        """The same tap with the worse figures of two cases."""
        return replace(
            self,
            local=_worse(self.local, other.local),
            propagated=_worse(self.propagated, other.propagated),
        )


def _worse(held: Judgement | None, new: Judgement | None) -> Judgement | None:
    """The more serious of two judgements on one tap, else the one with the larger figures."""
    if held is None or new is None:
        return held or new
    ranks = severity(held.verdict.status), severity(new.verdict.status)
    if ranks[0] != ranks[1]:
        return held if ranks[0] > ranks[1] else new
    return held if worse(held.measurement, new.measurement) is held.measurement else new
