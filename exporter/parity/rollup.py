"""From taps to layers, from layers to links; counts are of taps. ``decide`` joins the links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.parity.status import Status, severity
from exporter.parity.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """One verdict over several.

    Attributes:
        name: layer (module path), link or run.
        status: the most serious one within.
        reason: the reason of that one, or what is missing.
        worst: name of the part that decides, ``None`` when there is none.
        counts: how many taps have which status.
        weak: how many taps passed against a limit that could not fail them.
    """

    name: str
    status: Status
    reason: str
    worst: str | None = None
    counts: Mapping[Status, int] = field(default_factory=dict)
    weak: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What became of the taps of one link: ``expected = compared + empty + fused + missing``.

    ``compared`` counts taps of which elements were compared in some case; one that holds none in
    any case is ``empty``: its shape was compared and nothing else, so it covers nothing.
    """

    expected: int
    compared: int
    fused: int
    missing: int
    minimum: float = 1.0
    empty: int = 0

    @property
    def share(self) -> float:
        """Taps that are compared, or fused into a compared one, over those that hold elements.

        0 where no element of any tap was compared.
        """
        counted = self.expected - self.empty
        return (self.compared + self.fused) / counted if counted and self.compared else 0.0


def rollup(name: str, parts: Iterable[Verdict | Rollup]) -> Rollup:
    """Join verdicts: the worst counts; nothing to join is ``not run``, never a pass.

    Among equally serious parts the one with the largest strain decides, then the first.
    """
    verdicts = list(parts)
    if not verdicts:
        return Rollup(name=name, status=Status.NOT_RUN, reason="nothing was judged")
    decisive = max(verdicts, key=lambda p: (severity(p.status), _strain(p)))
    return Rollup(
        name=name,
        status=decisive.status,
        reason=decisive.reason,
        worst=decisive.name,
        counts=_counts(verdicts),
        weak=sum(p.weak if isinstance(p, Rollup) else int(p.weak) for p in verdicts),
    )


def link_verdict(name: str, layers: Sequence[Rollup | Verdict], coverage: Coverage) -> Rollup:
    """Join the layers of a link, and fail it when too few of its taps were compared."""
    whole = rollup(name, layers)
    c = coverage
    gap = None
    if c.expected != c.compared + c.empty + c.fused + c.missing:
        gap = (
            f"taps do not add up: {c.expected} expected, {c.compared} compared,"
            f" {c.empty} empty, {c.fused} fused, {c.missing} missing"
        )
    elif c.expected and not c.compared:
        empty = f": {c.empty} hold no element in any case" if c.empty else ""
        gap = f"none of {c.expected} taps was compared{empty}"
    elif c.expected and c.share < c.minimum:
        gap = f"{c.missing} of {c.expected} taps missing: {c.share!r} covered of {c.minimum!r}"
    if gap is None or whole.status is Status.FAIL:
        return whole
    return Rollup(
        name=name,
        status=Status.FAIL,
        reason=gap,
        worst=None,
        counts=whole.counts,
        weak=whole.weak,
    )


def _counts(parts: Iterable[Verdict | Rollup]) -> dict[Status, int]:
    total: Counter[Status] = Counter()
    for part in parts:
        # A part without taps (a link that was not run) still counts as itself.
        total.update(part.counts if isinstance(part, Rollup) and part.counts else {part.status: 1})
    return dict(total)


def _strain(part: Verdict | Rollup) -> float:
    strain = part.strain if isinstance(part, Verdict) else None
    return -1.0 if strain is None else strain
