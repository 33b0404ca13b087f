"""What float32 costs, from more than one draw.

A free run's largest error may sit at one element that some op amplifies (the log of a nearly
empty mel bin). PyTorch's error there is one draw of rounding noise and may happen to be small.
Further draws come from the same program with the terms of its sums in another order: correct
float32 implementations all, none of which knows the ONNX file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from exporter.execution.draws import draw_costs
from exporter.execution.evaluate import call
from exporter.graph.program import Op, Program
from exporter.parity.measurement import Distance

DRAWS = 8
_MOST_TERMS = 1 << 16


def float32_cost(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    names: Iterable[str],
    *,
    draws: int = DRAWS,
) -> dict[str, Distance]:
    """Worst distance to float64, over ``draws`` orders of summation, of floating values.

    Integers and booleans are those of the ordinary float32 run in every draw.

    Args:
        names: values of the program (not public output names).

    Returns:
        per name, the largest ``max_abs`` and ``rms`` that a draw had.
    """
    return draw_costs(program, inputs, names, _reordered, draws=draws)


def _reordered(
    op: Op,
    store: dict[str, Any],
    plain: dict[str, Any],
    wide: dict[str, Any],
    generator: torch.Generator,
) -> Any:
    def lookup(name: str) -> Any:
        return store[name] if name in store else plain[name]

    kernel = _REORDERED.get(op.target)
    if kernel is None:
        return call(op, lookup)
    operands = [lookup(arg.name) if hasattr(arg, "name") else arg for arg in op.args]
    result = kernel(generator, *operands, **op.kwargs)
    return call(op, lookup) if result is None else result


def _order(generator: torch.Generator, size: int) -> Tensor:
    return torch.randperm(size, generator=generator)


def _linear(
    generator: torch.Generator, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor | None:
    order = _order(generator, x.shape[-1])
    return functional.linear(x[..., order], weight[:, order], bias)


def _matmul(generator: torch.Generator, left: Tensor, right: Tensor) -> Tensor | None:
    if left.dim() < 2 or right.dim() < 2:
        return None
    order = _order(generator, left.shape[-1])
    return torch.matmul(left[..., order], right[..., order, :])


def _addmm(
    generator: torch.Generator, bias: Tensor, left: Tensor, right: Tensor, **kwargs: Any
) -> Tensor | None:
    order = _order(generator, left.shape[-1])
    return torch.addmm(bias, left[:, order], right[order], **kwargs)


def _conv1d(
    generator: torch.Generator,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1,),
    padding: Any = (0,),
    dilation: Any = (1,),
    groups: int = 1,
) -> Tensor | None:
    if groups != 1 or x.dim() != 3:
        return None
    step, pad, gap = stride[0], padding[0], dilation[0]
    padded = functional.pad(x, (pad, pad))
    length = (padded.shape[2] - gap * (weight.shape[2] - 1) - 1) // step + 1
    taps = torch.arange(weight.shape[2]) * gap
    starts = torch.arange(length) * step
    columns = padded[:, :, starts[:, None] + taps].permute(0, 2, 1, 3).flatten(2)
    order = _order(generator, columns.shape[-1])
    flat = weight.flatten(1)[:, order]
    return functional.linear(columns[..., order], flat, bias).transpose(1, 2)


def _conv2d(
    generator: torch.Generator,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> Tensor | None:
    """A kernel of height 1 is a one-dimensional convolution of every row."""
    if x.dim() != 4 or weight.shape[2] != 1 or (stride[0], padding[0]) != (1, 0):
        return None
    rows = x.transpose(1, 2).flatten(0, 1)
    result = _conv1d(
        generator, rows, weight.squeeze(2), bias, stride[1:], padding[1:], dilation[1:], groups
    )
    return None if result is None else result.unflatten(0, (x.shape[0], -1)).transpose(1, 2)


def _sum(
    generator: torch.Generator,
    x: Tensor,
    dims: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor | None:
    """One term after the other, as onnxruntime adds; torch adds sums of parts.

    The order alone would not do: of equal terms every order is the same, and torch's sum of parts
    may then be exact where a running sum is not.
    """
    if not x.is_floating_point() or dtype not in (None, x.dtype) or x.dim() == 0:
        return None
    axes = range(x.dim()) if dims is None or dims == [] else dims
    gone = sorted({axis % x.dim() for axis in ([axes] if isinstance(axes, int) else axes)})
    kept = [axis for axis in range(x.dim()) if axis not in gone]
    terms = x.permute(*gone, *kept).flatten(0, len(gone) - 1)
    if not 0 < len(terms) <= _MOST_TERMS:
        return None
    total = torch.zeros_like(terms[0])
    for index in _order(generator, len(terms)).tolist():
        total = total + terms[index]
    shape = [1 if axis in gone else size for axis, size in enumerate(x.shape)]
    return total.reshape(shape) if keepdim else total


def _mean(
    generator: torch.Generator,
    x: Tensor,
    dims: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor | None:
    total = _sum(generator, x, dims, keepdim, dtype=dtype)
    return None if total is None else total / (x.numel() / total.numel())


_REORDERED = {
    "aten.linear.default": _linear,
    "aten.matmul.default": _matmul,
    "aten.mm.default": _matmul,
    "aten.bmm.default": _matmul,
    "aten.addmm.default": _addmm,
    "aten.conv1d.default": _conv1d,
    "aten.conv2d.default": _conv2d,
    "aten.sum.default": _sum,
    "aten.sum.dim_IntList": _sum,
    "aten.mean.default": _mean,
    "aten.mean.dim": _mean,
}
