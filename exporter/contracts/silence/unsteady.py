"""Signals of which nothing but rounding is left, and models that make something large of it.

A constant that loses its mean and is divided by its spread gives 0.94 in float32, 0.54 in float64
and 0.002 in ONNX: each is a quotient of two roundings, and none of them is the model's answer. That
all sides move that far does not excuse it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from exporter.contracts.compare.noise import Noise, distance, scale_of
from exporter.contracts.locate.first import record, shared_keys
from exporter.contracts.locate.recorder import Call, Recorder
from exporter.contracts.result import Location
from exporter.contracts.target import ForwardError, Target, as_array
from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays
from exporter.interpret.eager_float64 import copied_in_double

STEADY = ("silence", "constant")
"""Signals that do not move: a mean or a spread of theirs is rounding."""
_LARGE = 1e-2
"""Share of an output's usual size from which on it is no rounding any more."""
_MOST_COPIED = 600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsteady:
    """An output that is rounding, where it differs most; ``onnx`` is None when there is no file."""

    output: str
    single: float
    double: float
    onnx: float | None
    where: Location | None
    beside: str = "PyTorch"

    def text(self) -> str:
        """One clause with all figures."""
        third = "" if self.onnx is None else f" and {self.onnx:.3g} in ONNX"
        return (
            f"'{self.output}' is {self.single:.3g} in {self.beside} in float32,"
            f" {self.double:.3g} in float64{third}"
        )


def unsteady(
    target: Target,
    inputs: Arrays,
    single: Mapping[str, np.ndarray],
    noise: Noise,
    onnx: Mapping[str, np.ndarray] | None = None,
) -> Unsteady | None:
    """The first float output that float64 gives otherwise by more than a hundredth of its size.

    ``None`` also where a decision lies in between (an output of other shape, or a discrete one that
    differs), where float64 cannot be run, and for models that are too large for a copy.

    Args:
        single: PyTorch's outputs on ``inputs``. onnx: the file's.
        noise: has the usual size of every output.
    """
    if copied_in_double(target.module) > _MOST_COPIED:
        return None
    try:
        double = target.recall_double(inputs)
    except Exception:  # noqa: BLE001 - upstream code may insist on float32
        return None
    if any(double[name].shape != value.shape for name, value in single.items()):
        return None
    for name, value in single.items():
        if value.dtype.kind in "biu" and not np.array_equal(value, double[name]):
            return None
    for name, value in single.items():
        wide = double[name]
        if value.dtype.kind != "f" or not value.size or not np.isfinite(wide).all():
            continue
        usual = max(scale_of(value, wide), noise.scales.get(name, 0.0))
        if not distance(value.astype(np.float64), wide) > _LARGE * usual:
            continue
        at = int(np.abs(value - wide).argmax())
        other = None if onnx is None else onnx[name]
        here = None if other is None or other.shape != value.shape else float(other.reshape(-1)[at])
        return Unsteady(
            output=name,
            single=float(value.reshape(-1)[at]),
            double=float(wide.reshape(-1)[at]),
            onnx=here,
            where=_first_value(target, inputs) or _first_layer(target, inputs),
            beside=target.beside,
        )
    return None


def _first_value(target: Target, inputs: Arrays) -> Location | None:
    """The first value of a file that does."""
    if target.inside is None:
        return None
    with target.inside(inputs) as double, contextlib.suppress(OnnxStoppedError):
        for name, (value,) in target.onnx.walk((inputs,)):
            if _is_large(value, double.one(name)):
                return target.onnx.place(name)
    return None


def _is_large(value: np.ndarray, wide: np.ndarray | None) -> bool:
    """Whether float64 gives something else, by more than rounding in either direction."""
    if wide is None or value.dtype.kind != "f" or value.shape != wide.shape or not value.size:
        return False
    apart = distance(value.astype(np.float64), wide)
    return bool(apart > _LARGE * max(scale_of(value, wide), 1e-3))


def _first_layer(target: Target, inputs: Arrays) -> Location | None:
    """The first module that makes something large of it."""
    try:
        single = record(target, inputs)
    except ForwardError:
        return None
    double: dict[str, Call] = {}
    with Recorder(target.module, take=lambda call: double.__setitem__(call.key, call)):
        target.double(inputs)
    for key in shared_keys((single, double)):
        if _is_large(as_array(single[key].value), as_array(double[key].value)):
            return single[key].place
    return None
