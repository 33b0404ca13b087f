"""Faster float64 forms of ops whose float64 kernel in torch is slow.

Order of summation is free in float64: the result only has to be far better than float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Tensor:
    """``aten.conv1d.default`` in float64: x ``[B, C, T]``, weight ``[O, C / groups, K]``.

    Depthwise convolutions are a sum of K shifted products (torch's own kernel for float64 takes
    a thousand times as long as its float32 one); all others are left to torch.
    """
    step, pad, gap = _first(stride), _first(padding), _first(dilation)
    depthwise = groups == x.shape[1] == weight.shape[0] and step == 1 and x.dim() == 3
    if not depthwise:
        return torch.ops.aten.conv1d.default(x, weight, bias, stride, padding, dilation, groups)
    kernel = weight.shape[2]
    padded = functional.pad(x, (pad, pad)) if pad else x
    length = padded.shape[2] - gap * (kernel - 1)
    result = padded[:, :, :length] * weight[:, 0, 0, None]
    for k in range(1, kernel):
        result.addcmul_(padded[:, :, k * gap : k * gap + length], weight[:, 0, k, None])
    return result if bias is None else result + bias[:, None]


def _first(value: Sequence[int] | int) -> int:
    return value if isinstance(value, int) else value[0]


def clone(x: Tensor, memory_format: torch.memory_format | None = None) -> Tensor:
    """``aten.clone.default`` without the copy: nothing is ever written to a float64 value."""
    if memory_format in (None, torch.preserve_format):
        return x
    return x.contiguous(memory_format=memory_format)


DOUBLE_KERNELS: dict[str, Callable[..., Any]] = {
    "aten.clone.default": clone,
    "aten.conv1d.default": conv1d,
}
