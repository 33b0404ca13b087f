"""NaN inside that everybody has at the same places, and that no output shows.

The mean of a row that is masked out altogether is 0 / 0 on every side; what reads it picks the
other rows. Such a NaN says nothing about the file. One at an output fails, and so does one that
only some of the sides have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from exporter.graph.taps import COMPARED, PlannedTap
from exporter.judge.culprits import Judged, WorstOf
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import judge


def excuse_masked_nan(
    planned: Iterable[PlannedTap], policy: Policy, found: Mapping[str, WorstOf]
) -> None:
    """Judge inner values of one case once more without the NaN that all sides share.

    Nothing is excused where an output holds NaN, is missing, or was not compared.
    """
    taps = {tap.tap.name: tap for tap in planned}
    outputs = [found[name] for name, tap in taps.items() if tap.output and tap.fate == COMPARED]
    if not outputs or not all(_shows_none(held) for held in outputs):
        return
    for name, held in found.items():
        layer = taps[name].tap.module
        held.local = _without(held.local, policy, layer)
        held.propagated = _without(held.propagated, policy, layer)


def _shows_none(held: WorstOf) -> bool:
    judged = [j.measurement for j in (held.local, held.propagated) if j is not None]
    return bool(judged) and all(m.problem is None and not _count(m) for m in judged)


def _count(m: Measurement) -> int:
    return max(m.nan_truth or 0, m.nan_expected or 0, m.nan_actual or 0)


def _without(judged: Judged | None, policy: Policy, layer: str) -> Judged | None:
    if judged is None or judged.verdict.status is not Status.FAIL:
        return judged
    m = judged.measurement
    shared = _count(m)
    if m.role != "inner" or not shared or m.nan_mismatch != 0:
        return judged
    rest = replace(
        m,
        nan_truth=None if m.nan_truth is None else 0,
        nan_expected=0,
        nan_actual=0,
        compared=m.compared + shared,
    )
    verdict = judge(rest, policy, layer=layer)
    if verdict.status is not Status.PASS:
        return judged
    reason = f"{verdict.reason}; {shared} NaN at the same places on all sides, none at an output"
    return replace(judged, verdict=replace(verdict, reason=reason))
