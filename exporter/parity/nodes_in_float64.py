"""Graph or kernel: what a float64 evaluation of the same ONNX nodes says about a failure.

A value that fails has two possible causes. The nodes of the file say something else than PyTorch
does: then they say it in float64 as well. Or they say the same, and a kernel loses digits when it
computes them in float32: then the nodes, evaluated in float64 on the same inputs, agree with
float64 PyTorch far better than float32 can.

How far "far better" is: a value fails when its error is above a limit; the graph is right when its
own error is below a ``SHARE`` of that limit, in maximum and in rms. What is left are constants
that a file holds in float32 and PyTorch in float64 (at most one unit roundoff each, about a 24th
of the limit of an ordinary op). So a fault of the graph that could make a value fail by itself is
at least ``1 / SHARE`` times too large to be taken for a kernel's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from exporter.parity.compare import measure, measure_exact
from exporter.parity.measurement import Measurement
from exporter.parity.tolerance import Limit, Policy, limit

SHARE = 1 / 16
"""Largest part of a value's limit that the graph's own error may be."""


class Cause(StrEnum):
    """Whose fault a failure is."""

    GRAPH = "graph"
    KERNEL = "kernel"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """A second opinion on one failing value.

    Attributes:
        cause: what is to blame. engine: what evaluated the nodes in float64, "" for nothing.
        graph_error: largest distance of the nodes in float64 from float64 PyTorch.
        float32_error: the same of float32 PyTorch; both None where there is no such distance.
        why: why nothing is known, for ``UNKNOWN``.
        nodes: operators whose kernels lose digits. provider: what the kernels belong to.
    """

    cause: Cause
    engine: str = ""
    graph_error: float | None = None
    float32_error: float | None = None
    why: str = ""
    nodes: tuple[str, ...] = ()
    provider: str = ""


def opinion(
    judged: Measurement,
    policy: Policy,
    *,
    layer: str,
    truth: np.ndarray,
    reference: np.ndarray,
    double: np.ndarray,
    engine: str,
) -> Opinion:
    """Hold a float64 evaluation of the nodes against float64 PyTorch.

    Args:
        judged: the measurement that failed. policy, layer: what its limit came from.
        truth: float64 PyTorch on the values that the piece reads; reference: float32 PyTorch.
        double: the same nodes in float64, on the same values. engine: what computed it.
    """
    if reference.dtype.kind in "biu":
        measured = measure_exact(judged.name, reference, double)
        agrees = measured.problem is None and measured.mismatches == 0
        return Opinion(cause=Cause.KERNEL if agrees else Cause.GRAPH, engine=engine)
    measured = measure(judged.name, truth=truth, reference=reference, actual=double)
    own = judged.reference or measured.reference
    allowed = limit(judged, policy, layer=layer) if judged.kind == "float" else None
    return Opinion(
        cause=Cause.KERNEL if _agrees(measured, allowed) else Cause.GRAPH,
        engine=engine,
        graph_error=measured.actual.max_abs if measured.actual is not None else None,
        float32_error=own.max_abs if own is not None else None,
    )


def _agrees(measured: Measurement, allowed: Limit | None) -> bool:
    """True where nothing differs but a small share of the limit; a copy must be exact."""
    distance = measured.actual
    if measured.problem is not None or distance is None or measured.inf_mismatch_actual:
        return False
    if (
        measured.nan_actual
        or measured.nan_truth
        or distance.max_abs is None
        or distance.rms is None
    ):
        return False
    most, rms = (0.0, 0.0) if allowed is None else (allowed.max_abs * SHARE, allowed.rms * SHARE)
    return distance.max_abs <= most and distance.rms <= rms
