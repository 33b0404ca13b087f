"""NaN inside that everybody has at the same places, and that no output shows.

The mean of a row that is masked out altogether is 0 / 0 on every side; what reads it picks the
other rows. Such a NaN says nothing about the file. One at an output fails, and so does one that
only some of the sides have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from exporter.core.tensors import COMPARED, PlannedTap
from exporter.judge.layer_results import JudgedTap, Judgement
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import judge


def excuse_masked_nan(
    planned: Iterable[PlannedTap], policy: Policy, taps: Mapping[str, JudgedTap]
) -> dict[str, JudgedTap]:
    """Judge inner values of one case once more without the NaN that all sides share.

    Nothing is excused where an output holds NaN, is missing, or was not compared.
    """
    outputs = [tap.tap.name for tap in planned if tap.output and tap.fate == COMPARED]
    if not outputs or not all(name in taps and _shows_none(taps[name]) for name in outputs):
        return dict(taps)
    return {
        name: replace(
            tap,
            local=_without(tap.local, policy, tap.planned.tap.module),
            propagated=_without(tap.propagated, policy, tap.planned.tap.module),
        )
        for name, tap in taps.items()
    }


def _shows_none(tap: JudgedTap) -> bool:
    figures = [j.measurement for j in tap.both]
    return bool(figures) and all(m.problem is None and not _count(m) for m in figures)


def _count(m: Measurement) -> int:
    return max(m.nan_truth or 0, m.nan_expected or 0, m.nan_actual or 0)


def _without(judged: Judgement | None, policy: Policy, layer: str) -> Judgement | None:
    if judged is None or not judged.fails:
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
