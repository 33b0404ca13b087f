"""Products and transforms with the terms of their sums in another order, in float32.

As in ``reordered_sums``: the arguments of the aten op behind a generator; ``NoOtherOrderError``
where there is none for these arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from exporter.interpret.reordered_sums import Generator, Kernel, only_if, order, softmax

_MOST_DFT = 1 << 12
_MOST_VALUES = 1 << 27


def convolution(
    generator: Generator,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """``aten.convolution`` with its channels in another order."""
    only_if(groups == 1 and weight.shape[0 if transposed else 1] > 1)
    turn = order(generator, x.shape[1])
    turned = weight[turn] if transposed else weight[:, turn]
    return torch.ops.aten.convolution.default(
        x[:, turn], turned, bias, stride, padding, dilation, transposed, output_padding, groups
    )


def conv_by_channel(
    generator: Generator,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """``aten.conv2d`` and ``conv3d`` with their channels in another order."""
    only_if(groups == 1 and weight.shape[1] > 1 and not isinstance(padding, str))
    only_if(x.dim() in (4, 5))
    turn = order(generator, x.shape[1])
    run = functional.conv2d if x.dim() == 4 else functional.conv3d
    return run(x[:, turn], weight[:, turn], bias, stride, padding, dilation)


def conv_transposed(
    generator: Generator,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """``aten.conv_transpose1d``, ``2d`` and ``3d`` with their channels in another order."""
    only_if(groups == 1 and weight.shape[0] > 1 and x.dim() in (3, 4, 5))
    run = getattr(functional, f"conv_transpose{x.dim() - 2}d")
    turn = order(generator, x.shape[1])
    return run(x[:, turn], weight[turn], bias, stride, padding, output_padding, 1, dilation)


def einsum(generator: Generator, equation: str, operands: Sequence[Tensor], **_: Any) -> Tensor:
    """``aten.einsum`` with every axis that is summed over in another order."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    labels = left.split(",")
    only_if(bool(arrow) and "." not in equation and len(labels) == len(operands))
    sizes = {c: n for subscripts, x in zip(labels, operands, strict=True)
             for c, n in zip(subscripts, x.shape, strict=True)}  # fmt: skip
    turns = {c: order(generator, n) for c, n in sizes.items() if c not in right}
    only_if(bool(turns))
    turned = []
    for subscripts, x in zip(labels, operands, strict=True):
        for axis, label in enumerate(subscripts):
            if label in turns and x.shape[axis] == sizes[label]:
                x = x.index_select(axis, turns[label])
        turned.append(x)
    return torch.einsum(equation, *turned)


def attention(
    generator: Generator,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``aten.scaled_dot_product_attention``, its features and its keys in another order."""
    only_if(not dropout and not enable_gqa and query.dim() > 1)
    features, keys = order(generator, query.shape[-1]), order(generator, key.shape[-2])
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query[..., features] * factor) @ key[..., keys, :][..., features].mT
    if is_causal:
        shape = query.shape[-2], key.shape[-2]
        mask = torch.ones(shape, dtype=torch.bool).tril()
    if mask is not None:
        mask = mask.expand(*mask.shape[:-1], key.shape[-2])[..., keys]
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, -torch.inf)
        else:
            scores = scores + mask
    shares = softmax(generator, scores, -1)
    only_if(bool(torch.isfinite(shares).all()))
    return shares @ value[..., keys, :]


def _dft(size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``cos`` and ``-sin`` of a transform, ``[time, frequency]``, rounded once."""
    step = torch.arange(size, dtype=torch.float64)
    angle = torch.outer(step, step).remainder(size) * (2 * torch.pi / size)
    return angle.cos().to(dtype), -angle.sin().to(dtype)


def _transformed(generator: Generator, frames: Tensor, bins: int) -> Tensor:
    """A transform of the last axis as two products, sample by sample in another order."""
    size = frames.shape[-1]
    only_if(0 < size <= _MOST_DFT and frames.numel() * bins <= _MOST_VALUES * 64)
    real, imaginary = _dft(size, frames.dtype)
    turn = order(generator, size)
    mixed = frames[..., turn]
    return torch.complex(mixed @ real[turn, :bins], mixed @ imaginary[turn, :bins])


def real_transform(
    generator: Generator, x: Tensor, dims: Sequence[int], normalization: int, onesided: bool
) -> Tensor:
    """``aten._fft_r2c`` of one axis, not normalised."""
    only_if(len(dims) == 1 and not normalization and x.dtype in (torch.float32, torch.float64))
    frames = x.movedim(dims[0], -1)
    size = frames.shape[-1]
    spectrum = _transformed(generator, frames, size // 2 + 1 if onesided else size)
    return spectrum.movedim(-1, dims[0])


def short_time_transform(
    generator: Generator,
    x: Tensor,
    n_fft: int,
    hop: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    *_: Any,
) -> Tensor:
    """``aten.stft`` of real samples, each frame as two products."""
    only_if(not normalized and win_length in (None, n_fft))
    only_if(return_complex is not False and not x.is_complex())
    frames = x.unfold(-1, n_fft, hop or n_fft // 4)
    frames = frames if window is None else frames * window
    return _transformed(generator, frames, n_fft if onesided is False else n_fft // 2 + 1).mT


def linear(generator: Generator, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``."""
    turn = order(generator, x.shape[-1])
    return functional.linear(x[..., turn], weight[:, turn], bias)


def matmul(generator: Generator, left: Tensor, right: Tensor) -> Tensor:
    """Products of matrices, of one or of many."""
    only_if(left.dim() > 1 and right.dim() > 1)
    turn = order(generator, left.shape[-1])
    return torch.matmul(left[..., turn], right[..., turn, :])


def addmm(generator: Generator, bias: Tensor, left: Tensor, right: Tensor, **kwargs: Any) -> Tensor:
    """``bias + left @ right``."""
    turn = order(generator, left.shape[-1])
    return torch.addmm(bias, left[:, turn], right[turn], **kwargs)


def conv1d(
    generator: Generator,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1,),
    padding: Any = (0,),
    dilation: Any = (1,),
    groups: int = 1,
) -> Tensor:
    """Ungrouped, as a product with the columns that the kernel sees."""
    only_if(groups == 1 and x.dim() == 3)
    step, pad, gap = stride[0], padding[0], dilation[0]
    padded = functional.pad(x, (pad, pad))
    length = (padded.shape[2] - gap * (weight.shape[2] - 1) - 1) // step + 1
    taps = torch.arange(weight.shape[2]) * gap
    starts = torch.arange(length) * step
    columns = padded[:, :, starts[:, None] + taps].permute(0, 2, 1, 3).flatten(2)
    turn = order(generator, columns.shape[-1])
    flat = weight.flatten(1)[:, turn]
    return functional.linear(columns[..., turn], flat, bias).transpose(1, 2)


def conv2d(
    generator: Generator,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> Tensor:
    """A kernel of height 1 is a one-dimensional convolution of every row."""
    if x.dim() != 4 or weight.shape[2] != 1 or (stride[0], padding[0]) != (1, 0):
        return conv_by_channel(generator, x, weight, bias, stride, padding, dilation, groups)
    rows = x.transpose(1, 2).flatten(0, 1)
    result = conv1d(
        generator, rows, weight.squeeze(2), bias, stride[1:], padding[1:], dilation[1:], groups
    )
    return result.unflatten(0, (x.shape[0], -1)).transpose(1, 2)


PRODUCTS: dict[str, Kernel] = {
    "aten.linear.default": linear,
    "aten.matmul.default": matmul,
    "aten.mm.default": matmul,
    "aten.bmm.default": matmul,
    "aten.addmm.default": addmm,
    "aten.conv1d.default": conv1d,
    "aten.conv2d.default": conv2d,
    "aten.convolution.default": convolution,
    "aten.conv3d.default": conv_by_channel,
    "aten.conv_transpose1d.default": conv_transposed,
    "aten.conv_transpose2d.input": conv_transposed,
    "aten.conv_transpose3d.input": conv_transposed,
    "aten.einsum.default": einsum,
    "aten.scaled_dot_product_attention.default": attention,
    "aten._fft_r2c.default": real_transform,
    "aten.stft.default": short_time_transform,
}
