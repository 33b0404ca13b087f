"""What a walk of PyTorch and ONNX in lock-step knows at one tap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from exporter.core.tensors import PlannedTap
from exporter.execution.onnx_float64 import DoubleRun
from exporter.interpret.margins import Margin
from exporter.interpret.rearranged import Rearranged
from exporter.interpret.sliced_linear import LinearSlices
from exporter.parity.measurement import Distance


@dataclass(frozen=True, slots=True, kw_only=True)
class TapValues:
    """All that is known at one tap; margins are valid until the next tap is asked for.

    ``free`` and ``forced`` are None when the file does not hold the value. ``exact`` says that
    the op only moves elements whose sources are taps: forced must equal reference bit for bit.
    ``margin`` and ``margin_local`` compute the float64 margins of a decision, on demand,
    in the free run and on what its piece reads; they take what ONNX decided. ``stopped`` is what
    onnxruntime said when it could not compute the value. A tap with ``slices`` is too large for
    its float64 values to be held; they are None and come from there, some rows at a time.
    ``double`` evaluates the piece of the file in float64, ``losing`` says which of its operators
    lose digits in float32, ``cost`` what other orders of summation cost in float32; they are there
    where that was asked for.
    ``rearranged`` is there when the op only rearranges a tap whose free value is still held.
    ``shown`` is the op whose results the value shows, in front of what only moves elements.
    ``stored`` is the file's shape of a value that was reshaped to PyTorch's to be compared.
    ``moved`` is what an op that only moves elements must leave, bit for bit, where the file stores
    them in a coarser format than PyTorch does.
    """

    planned: PlannedTap
    reference: np.ndarray
    truth_free: np.ndarray | None
    truth_local: np.ndarray | None
    free: np.ndarray | None
    forced: np.ndarray | None
    exact: bool
    margin: Callable[..., Margin] | None
    margin_local: Callable[..., Margin] | None = None
    stopped: str | None = None
    slices: LinearSlices | None = None
    rearranged: Rearranged | None = None
    stored: tuple[int, ...] | None = None
    shown: str = ""
    moved: np.ndarray | None = None
    double: Callable[[], DoubleRun] | None = None
    losing: Callable[[], tuple[str, ...]] | None = None
    cost: Callable[[], Distance] | None = None


@dataclass(slots=True)
class Clock:
    """Seconds spent per kind of work."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, seconds: float) -> None:
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
