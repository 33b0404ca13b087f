"""One layer: isolate it, explain what fails, try the variations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exporter.core.tensors import PlannedTap
from exporter.debugging.explain_numbers import explain_row, fusion_finding
from exporter.debugging.finding import Finding, from_difference
from exporter.debugging.isolate import Isolated, isolate
from exporter.debugging.located_differences import Located, explaining, taps_behind
from exporter.debugging.pair import Pair
from exporter.debugging.select import LayerTaps
from exporter.debugging.variations import Variation, vary
from exporter.debugging.what_enters import added_up, entering_finding
from exporter.judge.layer_results import JudgedTap


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found about one layer.

    Attributes:
        layer: the layer. held: its table. findings: what is wrong, most telling first.
        matrix: the variations. remarks: worth knowing, decides nothing.
    """

    layer: LayerTaps
    held: Isolated
    findings: tuple[Finding, ...]
    matrix: tuple[Variation, ...]
    remarks: tuple[str, ...]

    @property
    def guilty(self) -> bool:
        """True when something about this layer (or what enters it) is wrong."""
        return bool(self.findings)


def diagnose(
    pair: Pair,
    layer: LayerTaps,
    located: Sequence[Located],
    *,
    upstream: Sequence[str] = (),
    propagated: tuple[PlannedTap, str] | None = None,
) -> Diagnosis:
    """Take one layer apart.

    Args:
        located: structural differences of the whole file.
        upstream: modules that are known culprits, named when this layer's input is wrong.
        propagated: a tap that only fails in the free run, and why.
    """
    named = {t.tap.name for t in layer.taps}
    here = [at for at in located if any(t.tap.name in named for t in at.taps)]
    behind = taps_behind(pair, here)
    isolated = isolate(pair, _merged(pair, layer.taps, behind))
    explained = {
        row.planned.tap.name: differing
        for row in isolated.failing
        if (differing := explaining(pair, row, located))
    }
    # A tap of this layer may fail for what lies in the piece in front of it.
    here += [at for differing in explained.values() for at in differing if at not in here]
    matrix = vary(pair, isolated)
    findings = [
        from_difference(
            pair,
            at,
            tuple(r for r in isolated.failing if at in explained.get(r.planned.tap.name, ())),
        )
        for at in here
    ]
    findings += _unexplained(pair, isolated, explained, matrix)
    remarks: list[str] = []
    if not findings:
        fused = fusion_finding(isolated, matrix)
        findings += [fused] if fused else []
    if not findings:
        entering = entering_finding(pair, isolated, upstream)
        findings += [entering] if entering else []
    if not findings and propagated is not None:
        findings.append(added_up(*propagated))
    unheld = [row.planned.tap.name for row in isolated.rows if row.local is None]
    if unheld:
        remarks.append(
            f"{len(unheld)} of {len(isolated.rows)} ops have no value of their own in this file "
            "(folded or fused); the tap behind them holds their share of the error"
        )
    return Diagnosis(
        layer=layer,
        held=isolated,
        findings=tuple(findings),
        matrix=matrix,
        remarks=tuple(remarks),
    )


def _merged(
    pair: Pair, taps: Iterable[PlannedTap], more: Iterable[PlannedTap]
) -> tuple[PlannedTap, ...]:
    names = {t.tap.name for t in taps} | {t.tap.name for t in more}
    return tuple(t for t in pair.planned if t.tap.name in names)


def _unexplained(
    pair: Pair,
    isolated: Isolated,
    explained: dict[str, tuple[Located, ...]],
    matrix: Sequence[Variation],
) -> list[Finding]:
    """One finding per module of the taps that fail for no structural reason."""
    first: dict[str, JudgedTap] = {}
    for row in isolated.failing:
        if row.planned.tap.name in explained:
            continue
        first.setdefault(row.planned.tap.module, row)
    return [explain_row(pair, isolated, row, matrix) for row in first.values()]
