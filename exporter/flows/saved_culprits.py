"""Which layers a link that was judged again finds guilty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporter.flows.saved_links import measured
from exporter.parity.nodes_in_float64 import Cause
from exporter.parity.over_limit import culprit_rank, over_limit
from exporter.parity.status import Status
from exporter.report.comparison import (
    CulpritRecord,
    LayerRecord,
    LinkRecord,
    TapRecord,
    VerdictRecord,
)
from exporter.report.schema import Report


def culprits_of(link: LinkRecord, report: Report) -> list[CulpritRecord]:
    """One per layer that fails by itself, the worst first, as a run ranks them; failing that, the
    first tap that fails at all.

    Of a link that has not moved they are those that were saved.
    """
    saved = [culprit for culprit in report.culprits if culprit.link == link.name]
    if link == report.link(link.name):
        return saved
    known = {culprit.layer: culprit for culprit in saved}
    ranked: list[tuple[tuple[bool, float], CulpritRecord]] = []
    for layer in link.layers:
        failing = [
            (over_limit(measured(tap.local) if tap.local else None, local.strain), tap, local)
            for tap in layer.taps
            if (local := tap.local_verdict) is not None and local.verdict == Status.FAIL
        ]
        if failing:
            over, tap, local = max(failing, key=lambda item: item[0])
            culprit = _culprit(link, layer, tap, local, known)
            ranked.append((culprit_rank(over, kernel=culprit.cause == Cause.KERNEL), culprit))
    if ranked:
        return [record for _, record in sorted(ranked, key=lambda pair: pair[0], reverse=True)]
    for layer in link.layers:
        for tap in layer.taps:
            free = tap.propagated_verdict
            if free is not None and free.verdict == Status.FAIL:
                return [_culprit(link, layer, tap, free, known)]
    return [culprit for culprit in saved if culprit.cause == Cause.KERNEL]


def _culprit(
    link: LinkRecord,
    layer: LayerRecord,
    tap: TapRecord,
    decisive: VerdictRecord,
    known: Mapping[str, CulpritRecord],
) -> CulpritRecord:
    if layer.module in known:
        return known[layer.module]
    return CulpritRecord(
        link=link.name,
        stage="export or simplify",
        layer=layer.module,
        op=tap.op,
        tap=tap.name,
        source=tap.source,
        case=tap.case,
        local_error=_error(tap.local),
        propagated_error=_error(tap.propagated),
        ratio=decisive.ratio,
        limit=decisive.limit,
        who=decisive.who,
        reason=decisive.reason,
    )


def _error(measurement: Mapping[str, Any] | None) -> float | None:
    if measurement is None:
        return None
    rebuilt = measured(measurement)
    distance = rebuilt.actual or rebuilt.direct
    return distance.max_abs if distance else None
