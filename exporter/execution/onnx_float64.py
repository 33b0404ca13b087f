"""Nodes of an ONNX graph evaluated in float64: what the file means, without a kernel's rounding.

onnxruntime runs them where it has kernels for float64; else onnx's own reference evaluator does,
with convolutions by torch (its own take minutes in Python) and Erf in float64 (its own gives
float32, element by element).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from exporter.core.errors import ArtifactError
from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import ModelRun
from exporter.graph.float64_piece import double_model

ONNXRUNTIME = "onnxruntime in float64"
EVALUATOR = "onnx's reference evaluator in float64"

_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "Loop", "Scan"})
# The evaluator takes a step of a recurrence, or of a loop, in Python.
_MOST_STEPS = 20_000
_MANY = 1 << 16
"""Elements that Python needs no longer for than torch for its start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleRun:
    """Values of a float64 evaluation by name, and by what; empty where neither could, and why."""

    values: Mapping[str, np.ndarray]
    engine: str = ""
    why: str = ""


def run_double(model: onnx.ModelProto, feeds: Arrays) -> DoubleRun:
    """Evaluate a small model in float64.

    Args:
        model: as the file has it, weights inside. feeds: its inputs; float32 ones are widened.
    """
    try:
        wide = double_model(model)
    except ArtifactError as error:
        return DoubleRun(values={}, why=error.problem)
    given = {name: _widened(value) for name, value in feeds.items()}
    names = [value.name for value in wide.graph.output]
    try:
        outputs = ModelRun(wide, Deployment(level="disable", threads=1)).run(given)
        return DoubleRun(values=outputs, engine=ONNXRUNTIME)
    except Exception as error:  # noqa: BLE001 - it has no kernel, or stops: the next one is asked
        first = str(error)
    longest = max((max(value.shape, default=0) for value in given.values()), default=0)
    slow = {node.op_type for node in wide.graph.node} & _RECURRENT
    if slow and longest > _MOST_STEPS:
        return DoubleRun(values={}, why=f"{min(slow)} over up to {longest} steps")
    try:
        with np.errstate(all="ignore"):
            by_torch = [Conv, ConvTranspose] if importlib.util.find_spec("torch") else []
            evaluator = ReferenceEvaluator(wide, new_ops=[Erf, *by_torch])
            results: Any = evaluator.run(names, given)
    except Exception as error:  # noqa: BLE001 - gaps of the evaluator are no finding about the file
        lines = f"{first}; {type(error).__name__}: {error}".splitlines()
        return DoubleRun(values={}, why=lines[0][:200])
    pairs = zip(names, results, strict=True)
    arrays = {name: np.asarray(value) for name, value in pairs if not isinstance(value, list)}
    return DoubleRun(values=arrays, engine=EVALUATOR)


def _widened(value: np.ndarray) -> np.ndarray:
    wide = value.astype(np.float64) if value.dtype == np.float32 else value
    return np.asarray(wide, order="C")


class Erf(OpRun):
    """ONNX's Erf in the precision of what goes in; by torch where that is much."""

    def _run(self, x: Any) -> tuple[np.ndarray]:
        if x.size > _MANY and importlib.util.find_spec("torch"):
            import torch

            return (torch.erf(torch.from_numpy(np.ascontiguousarray(x))).numpy(),)
        return (np.vectorize(math.erf, otypes=["d"])(x).astype(x.dtype),)


class Conv(OpRun):
    """ONNX's Conv by torch; its own attributes, any number of spatial axes from one to three."""

    def _run(
        self, X: Any, W: Any, B: Any = None, auto_pad: str = "NOTSET",
        dilations: Any = None, group: Any = None, kernel_shape: Any = None,
        pads: Any = None, strides: Any = None,
    ) -> tuple[np.ndarray]:  # fmt: skip
        from torch.nn import functional

        axes = X.ndim - 2
        strides, dilations = strides or [1] * axes, dilations or [1] * axes
        kernel = W.shape[2:]
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            pads = _same(X.shape[2:], kernel, strides, dilations, auto_pad)
        elif auto_pad == "VALID" or not pads:
            pads = [0] * 2 * axes
        x, weight, bias = _tensors(X, W, B)
        x = functional.pad(x, _torch_pads(pads))
        run = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
        result = run(x, weight, bias, stride=strides, dilation=dilations, groups=group or 1)
        return (result.numpy(),)


class ConvTranspose(OpRun):
    """ONNX's ConvTranspose by torch, with explicit pads."""

    def _run(
        self, X: Any, W: Any, B: Any = None, auto_pad: str = "NOTSET",
        dilations: Any = None, group: Any = None, kernel_shape: Any = None,
        output_padding: Any = None, output_shape: Any = None, pads: Any = None, strides: Any = None,
    ) -> tuple[np.ndarray]:  # fmt: skip
        from torch.nn import functional

        axes = X.ndim - 2
        if auto_pad not in ("NOTSET", "VALID") or output_shape:
            raise NotImplementedError("ConvTranspose with automatic pads or a given output shape")
        strides, dilations = strides or [1] * axes, dilations or [1] * axes
        pads, more = pads or [0] * 2 * axes, output_padding or [0] * axes
        run = (
            functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d,
        )[axes - 1]  # fmt: skip
        x, weight, bias = _tensors(X, W, B)
        whole = run(x, weight, None, stride=strides, dilation=dilations, groups=group or 1)
        # What is added behind may lie beyond the last product: there are zeros.
        whole = functional.pad(whole, _torch_pads([0] * axes + list(more)))
        for axis in range(axes):
            size = whole.shape[2 + axis] - pads[axis] - pads[axes + axis]
            whole = whole.narrow(2 + axis, pads[axis], size)
        if bias is not None:
            whole = whole + bias.reshape(-1, *[1] * axes)
        return (whole.contiguous().numpy(),)


def _tensors(*arrays: Any) -> list[Any]:
    import torch

    return [None if array is None else torch.from_numpy(np.array(array)) for array in arrays]


def _torch_pads(pads: Sequence[int]) -> list[int]:
    """ONNX's ``[begin..., end...]`` as torch's ``[last begin, last end, ...]``."""
    axes = len(pads) // 2
    return [p for axis in reversed(range(axes)) for p in (pads[axis], pads[axes + axis])]


def _same(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    gaps: Sequence[int],
    how: str,
) -> list[int]:
    begins, ends = [], []
    for size, width, step, gap in zip(sizes, kernel, strides, gaps, strict=True):
        whole = max(0, (math.ceil(size / step) - 1) * step + gap * (width - 1) + 1 - size)
        less = whole // 2
        begins.append(less if how == "SAME_UPPER" else whole - less)
        ends.append(whole - begins[-1])
    return [*begins, *ends]
