"""Limits for comparing two float32 runs that ought to be equal, from what float32 itself costs.

Two runs of one layer on one input, at other sizes or in another batch, add in other orders. How
far they may be apart is measured, not tuned: one run in float64 says how far float32 is from the
truth at every layer, as a share of the layer's largest value. The limit is the parity policy's
(``exporter.parity.tolerance``): its factor times the larger of that share and its floor. A module
that is float16 or bfloat16 throughout has the floor of that format; a module of several has
float32's, so that one coarse layer does not excuse the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from exporter.contracts.locate.recorder import Call, Recorder
from exporter.contracts.probes import probe, resize, take_row
from exporter.contracts.result import Location
from exporter.contracts.target import Target, as_view
from exporter.core.tensors import Arrays
from exporter.interpret.eager_float64 import copied_in_double
from exporter.parity.tolerance import FORMATS, Policy, widened

_POLICY = Policy()
_FORMATS = {torch.float16: "float16", torch.bfloat16: "bfloat16"}
_SHORTENED = 4
_MOST_COPIED = 600_000_000
"""Weights that a float64 run may copy; the matrices of large linear layers are not copied."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Relative float32 error per record key and per output name.

    Attributes:
        shares: largest |float32 - float64| over the largest |float64|.
        why: where the figures come from, or why there are none.
        number_format: key of ``exporter.parity.tolerance.FORMATS`` whose roundoff makes the floor.
        scales: largest |float64| of an output on the probe: what a value is small beside.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    number_format: str = "float32"
    scales: Mapping[str, float] = field(default_factory=dict)

    @property
    def floor(self) -> Noise:
        """What any computation in this format may cost, whatever was measured."""
        return Noise(number_format=self.number_format)

    def at_least(self, other: Noise) -> Noise:
        """The larger share of two measurements under every key."""

        def larger(mine: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
            return {k: max(mine.get(k, 0.0), theirs.get(k, 0.0)) for k in {*mine, *theirs}}

        return replace(
            self,
            shares=larger(self.shares, other.shares),
            scales=larger(self.scales, other.scales),
        )

    def limit(self, key: str, scale: float, elements: int) -> float:
        """Largest difference that rounding explains.

        Args:
            key: record key or output name; unknown ones get the floor.
            scale: largest magnitude of the values compared.
            elements: how many values ``scale`` rests on.
        """
        unit = FORMATS[self.number_format].roundoff
        floor = _POLICY.floor_max_ulps * unit * widened(elements)
        # Below a rounding of what the output is on the probe, a value is nothing.
        least = max(unit * self.scales.get(key, 0.0), 1e-30)
        return _POLICY.factor * max(self.shares.get(key, 0.0), floor) * max(scale, least)

    def explains(self, key: str, left: np.ndarray, right: np.ndarray) -> bool:
        """Whether rounding explains how two arrays differ."""
        return distance(left, right) <= self.limit(key, scale_of(left, right), left.size)


def measure_noise(target: Target, inputs: Arrays) -> Noise:
    """One float32 and one float64 run with records; keeps numbers, not values."""
    held = format_of(target.module)
    if copied_in_double(target.module) > _MOST_COPIED:
        why = "not measured: the model is too large for a float64 copy; the floor holds"
        return Noise(why=why, number_format=held)
    single: list[Call] = []
    with Recorder(target.module, take=single.append):
        returned = target.call(inputs)
    target.remember(inputs, returned)
    single += _outputs(target.named(returned))
    known = {call.key: call.value for call in single}
    shares: dict[str, float] = {}

    def compare(call: Call) -> None:
        value = known.get(call.key)
        share = None if value is None else _share(value, call.value)
        if share is not None:
            shares[call.key] = share

    try:
        with Recorder(target.module, take=compare, copies=False):
            wide = target.double(inputs)
    except Exception as error:  # noqa: BLE001 - upstream code may insist on float32
        why = f"not measured: the module does not run in float64 ({error}); floor holds"
        return Noise(why=why, number_format=held)
    scales = {}
    for call in _outputs(wide):
        compare(call)
        scales[call.key] = scale_of(as_view(call.value))
    why = f"{held} against float64 on the probe"
    return Noise(shares=shares, why=why, number_format=held, scales=scales)


def format_of(module: nn.Module) -> str:
    """The format of all floating parameters and buffers of a module; float32 if they differ."""
    held = {v.dtype for v in (*module.parameters(), *module.buffers()) if v.is_floating_point()}
    return _FORMATS.get(held.pop(), "float32") if len(held) == 1 else "float32"


def noise_of(target: Target) -> Noise:
    """The noise of a target; measured once, on a short run.

    Short for two reasons: float64 is expensive, and a backend that turns coarse with the length
    must not set its own limit.

    Raises:
        ForwardError: the module does not run on a short probe.
    """
    if target._noise is None:
        target._noise = measure_noise(target, noise_inputs(target))
    return target._noise


def noise_inputs(target: Target) -> dict[str, np.ndarray]:
    """The short run that noise is measured on: one row, a quarter of the probe."""
    inputs = probe(target)
    axis = target.time_axis()
    if axis is not None:
        short = max(axis.minimum, inputs[axis.input].shape[axis.position] // _SHORTENED)
        inputs = resize(target, inputs, axis, short)
    return take_row(target, inputs, 0) if target.batch is not None else inputs


def _outputs(named: Mapping[str, Tensor]) -> list[Call]:
    return [Call(key=n, place=Location(), value=v.detach()) for n, v in named.items()]


def _share(value: Tensor, truth: Tensor) -> float | None:
    if value.shape != truth.shape or not value.is_floating_point() or not value.numel():
        return None
    gap, scale = float((truth - value).abs().max()), float(truth.abs().max())
    if math.isfinite(gap) and math.isfinite(scale):
        return gap / scale if scale else None
    finite = torch.isfinite(value) & torch.isfinite(truth)
    if not bool(finite.any()):
        return None
    wide = truth.double()[finite]
    scale = float(wide.abs().max())
    if scale == 0.0:
        return None
    return float((value.double()[finite] - wide).abs().max()) / scale


def distance(left: np.ndarray, right: np.ndarray) -> float:
    """Largest absolute difference; ``inf`` when shapes, NaN or infinities do not match, and
    for discrete values that are not equal; 0.0 for nothing to compare."""
    if left.shape != right.shape:
        return math.inf
    if not left.size:
        return 0.0
    if left.dtype.kind in "biu" or right.dtype.kind in "biu":
        return 0.0 if np.array_equal(left, right) else math.inf
    with np.errstate(invalid="ignore", over="ignore"):
        # Near neighbours subtract exactly in their own precision, so nothing is widened.
        gap = float(np.abs(left - right).max())
        if math.isfinite(gap):
            return gap
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        rest = np.abs(left.astype(np.float64) - right.astype(np.float64))[~same]
    if not rest.size:
        return 0.0
    return math.inf if not np.isfinite(rest).all() else float(rest.max())


def scale_of(*arrays: np.ndarray) -> float:
    """Largest finite magnitude."""
    peak = 0.0
    for array in arrays:
        if array.size and array.dtype.kind not in "biu":
            largest = max(float(array.max()), -float(array.min()))
            if not math.isfinite(largest):
                finite = array[np.isfinite(array)]
                largest = float(np.abs(finite).max(initial=0.0))
            peak = max(peak, largest)
    return peak
