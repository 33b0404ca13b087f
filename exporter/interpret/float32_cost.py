"""What float32 costs, from more than one draw.

A free run's largest error may sit at one element that some op amplifies (the log of a nearly
empty mel bin). PyTorch's error there is one draw of rounding noise and may happen to be small.
Further draws come from the same program with the terms of its sums in another order: correct
float32 implementations all, none of which knows the ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from exporter.graph.program import Op, Program
from exporter.interpret.draws import draw_costs
from exporter.interpret.evaluate import call, keep_decisions, operands_of, to_array
from exporter.interpret.reordered_products import CONTRACTIONS, conv_by_channel
from exporter.interpret.reordered_sums import SUMS, Kernel
from exporter.interpret.reordered_sums import order as order_of
from exporter.parity.compare import measure
from exporter.parity.measurement import Distance

DRAWS = 8


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
    args, kwargs = operands_of(op, lookup)
    result = kernel(generator, *args, **kwargs)
    return call(op, lookup) if result is None else result


def cost_of(
    op: Op, lookup: Callable[[str], Any], truth: np.ndarray, *, draws: int = DRAWS
) -> Distance:
    """Worst distance to float64 that one op has by itself, over orders of summation.

    Args:
        lookup: float32 values that the op reads. truth: float64 on the same values.
    """
    reference = call(op, lookup)
    found = []
    with torch.no_grad():
        for seed in range(draws):
            generator = torch.Generator().manual_seed(seed)
            held: dict[str, Any] = {name: lookup(name) for name in op.refs()}
            value = keep_decisions(_reordered(op, {}, held, {}, generator), reference)
            measured = measure(
                op.name, truth=truth, reference=to_array(reference), actual=to_array(value)
            )
            if measured.actual is not None and measured.actual.max_abs is not None:
                found.append(measured.actual)
    return Distance(
        elements=truth.size,
        max_abs=max((d.max_abs for d in found if d.max_abs is not None), default=None),
        rms=max((d.rms for d in found if d.rms is not None), default=None),
    )


def _linear(
    generator: torch.Generator, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor | None:
    order = order_of(generator, x.shape[-1])
    return functional.linear(x[..., order], weight[:, order], bias)


def _matmul(generator: torch.Generator, left: Tensor, right: Tensor) -> Tensor | None:
    if left.dim() < 2 or right.dim() < 2:
        return None
    order = order_of(generator, left.shape[-1])
    return torch.matmul(left[..., order], right[..., order, :])


def _addmm(
    generator: torch.Generator, bias: Tensor, left: Tensor, right: Tensor, **kwargs: Any
) -> Tensor | None:
    order = order_of(generator, left.shape[-1])
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
    order = order_of(generator, columns.shape[-1])
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
        return conv_by_channel(generator, x, weight, bias, stride, padding, dilation, groups)
    rows = x.transpose(1, 2).flatten(0, 1)
    result = _conv1d(
        generator, rows, weight.squeeze(2), bias, stride[1:], padding[1:], dilation[1:], groups
    )
    return None if result is None else result.unflatten(0, (x.shape[0], -1)).transpose(1, 2)


_REORDERED: dict[str, Kernel] = {
    **SUMS,
    **CONTRACTIONS,
    "aten.linear.default": _linear,
    "aten.matmul.default": _matmul,
    "aten.mm.default": _matmul,
    "aten.bmm.default": _matmul,
    "aten.addmm.default": _addmm,
    "aten.conv1d.default": _conv1d,
    "aten.conv2d.default": _conv2d,
}
