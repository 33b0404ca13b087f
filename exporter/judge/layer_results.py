"""What a walk of the layers gives, as values: judged taps, culprits, and the link of them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from exporter.core.tensors import PlannedTap
from exporter.execution.tap_values import Clock
from exporter.parity.measurement import Measurement
from exporter.parity.merge import worse
from exporter.parity.nodes_in_float64 import Opinion
from exporter.parity.status import BEYOND_BY_ITSELF, Status, severity, worst
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
    free run. ``nodes``, where a layer is taken apart: indices of the file's nodes that compute the
    tap from other taps.
    """

    planned: PlannedTap
    local: Judgement | None = None
    propagated: Judgement | None = None
    nodes: tuple[int, ...] = ()

    @property
    def status(self) -> Status:
        """The more serious of the two; a tap that was not compared was not run."""
        return worst([j.verdict.status for j in self.both])

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """A layer that is wrong by itself (or, failing that, the first place where errors show).

    ``lost`` are taps of the piece that the file has lost; ``others`` fail in the same layer, and
    are less wrong.
    """

    tap: JudgedTap
    lost: tuple[PlannedTap, ...] = ()
    others: tuple[JudgedTap, ...] = ()

    @property
    def local(self) -> bool:
        """False when only the propagated error fails."""
        local = self.tap.local
        return local is not None and local.verdict.status in BEYOND_BY_ITSELF

    @property
    def opinion(self) -> Opinion | None:
        """Whether graph or kernel is to blame; None where nobody asked."""
        return self.tap.local.opinion if self.tap.local is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLink:
    """All taps of a link, the culprits, the worst first, and where the time went.

    ``findings`` are layers in which a kernel loses digits and nothing fails. ``decisions`` has, by
    case, the first ambiguous decision in words; None where there is none or something fails.
    """

    taps: tuple[JudgedTap, ...]
    clock: Clock
    culprits: tuple[Culprit, ...] = ()
    findings: tuple[Culprit, ...] = ()
    decisions: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def in_question(self) -> frozenset[str]:
        """Taps that fail by themselves and in a free run; where a user gets the right value, the
        name is right and what the piece was fed is not."""
        return frozenset(
            tap.planned.tap.name
            for tap in self.taps
            if tap.fails_by_itself
            and tap.propagated is not None
            and tap.propagated.fails
            and not (tap.planned.output or tap.planned.constant)
        )


def decision_in_doubt(taps: Iterable[JudgedTap]) -> str | None:
    """Why outputs of a case may differ: a decision whose margin is below the noise."""
    verdicts = [j.verdict for tap in taps for j in reversed(tap.both)]
    if any(v.status is Status.FAIL for v in verdicts):
        return None
    # A limit that shows nothing is no decision that could have gone either way.
    return next((v.reason for v in verdicts if v.status is Status.AMBIGUOUS and not v.weak), None)


def _worse(current: Judgement | None, new: Judgement | None) -> Judgement | None:
    """The more serious of two judgements on one tap, else the one with the larger figures."""
    if current is None or new is None:
        return current or new
    ranks = severity(current.verdict.status), severity(new.verdict.status)
    if ranks[0] != ranks[1]:
        return current if ranks[0] > ranks[1] else new
    return current if worse(current.measurement, new.measurement) is current.measurement else new
