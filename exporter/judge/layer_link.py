"""The link of all layers, as one record: counted, gated by coverage, judged."""

from __future__ import annotations

from exporter.graph.taps import count_fates
from exporter.layers import LayerLink
from exporter.parity.rollup import Coverage, link_verdict
from exporter.parity.status import Status
from exporter.record import layer_records
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
    verdicts = [
        judged.verdict
        for tap in layers.taps
        for judged in (tap.local, tap.propagated)
        if judged is not None
    ]
    coverage = Coverage(
        expected=len(layers.taps),
        compared=fates["compared"],
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
        compared=fates["compared"],
        fused=fates["fused"],
        missing=fates["missing"],
        coverage=(fates["compared"] + fates["fused"]) / max(len(layers.taps), 1),
        layers=layer_records(layers),
    )
    return record, held.status
