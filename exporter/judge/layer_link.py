"""The link of all layers, as one record: counted, gated by coverage, judged."""

from __future__ import annotations

from exporter.graph.taps import COMPARED, count_fates
from exporter.judge.layers import LayerLink, TapResult
from exporter.judge.records import layer_records
from exporter.parity.rollup import Coverage, link_verdict
from exporter.parity.status import Status
from exporter.parity.verdict import Verdict
from exporter.report.schema import LinkRecord


def layer_link(
    layers: LayerLink, name: str, ends: tuple[str, str], min_coverage: float | None
) -> tuple[LinkRecord, Status]:
    """Record and status of a walk.

    Args:
        name: of the link. ends: what was compared with what.
        min_coverage: share of taps that must be compared; None for all of them.
    """
    fates = count_fates(tap.planned for tap in layers.taps)
    verdicts = [verdict for tap in layers.taps for verdict in _verdicts(tap)]
    empty = sum(_is_empty(tap) for tap in layers.taps)
    coverage = Coverage(
        expected=len(layers.taps),
        compared=fates["compared"] - empty,
        empty=empty,
        fused=fates["fused"],
        missing=fates["missing"],
        minimum=1.0 if min_coverage is None else min_coverage,
    )
    held = link_verdict(name, verdicts, coverage)
    record = LinkRecord(
        name=held.name,
        expected=ends[0],
        actual=ends[1],
        verdict=held.status.value,
        reason=held.reason,
        compared=coverage.compared,
        empty=empty,
        fused=fates["fused"],
        missing=fates["missing"],
        coverage=coverage.share,
        weak=sum(any(v.weak for v in _verdicts(tap)) for tap in layers.taps),
        layers=layer_records(layers),
    )
    return record, held.status


def _verdicts(tap: TapResult) -> list[Verdict]:
    return [judged.verdict for judged in (tap.local, tap.propagated) if judged is not None]


def _is_empty(tap: TapResult) -> bool:
    """True for a tap that the file holds and that has no element in any case."""
    held = tap.local.measurement.elements if tap.local is not None else 0
    return tap.planned.fate == COMPARED and not held
