"""Ops that add up, with their terms in another order: correct float32 implementations all.

Every function has the arguments of its aten op behind a generator of random numbers, and gives
what the op gives; it raises ``NoOtherOrderError`` where there is none for these arguments. What is
computed term by term stays in the order of the terms; sums have two forms:

    running   one term after the other, as cumulative sums and many kernels add
    blocked   the same in blocks of at most a few hundred terms, then over the blocks

A reduction over a long axis is blocked: kernels that add a million terms one after the other lose
digits that float32 need not lose, and are to be told so. A cumulative sum has both forms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_BLOCKS = (32, 64, 128, 256)
_MOST_TERMS = 1 << 16

Generator = torch.Generator
Kernel = Callable[..., Tensor]


class NoOtherOrderError(Exception):
    """These arguments of an op leave one order only."""


def only_if(possible: bool) -> None:
    """Stop where there is no other order.

    Raises:
        NoOtherOrderError: it is not possible.
    """
    if not possible:
        raise NoOtherOrderError


def order(generator: Generator, size: int) -> Tensor:
    """A random order of ``size`` terms."""
    return torch.randperm(size, generator=generator)


def draw(generator: Generator, choices: Sequence[int]) -> int:
    """One of some numbers."""
    return choices[int(torch.randint(len(choices), (1,), generator=generator))]


def axes_of(dims: Any, rank: int) -> list[int]:
    """Axes of a reduction, counted from the front; none given means all."""
    if dims is None or dims == []:
        return list(range(rank))
    return sorted({axis % rank for axis in ([dims] if isinstance(dims, int) else dims)})


def running(terms: Tensor) -> Tensor:
    """Sum over the last axis, one term after the other."""
    sums = np.cumsum(terms.numpy(), axis=-1, dtype=terms.numpy().dtype)[..., -1]
    return torch.from_numpy(np.ascontiguousarray(sums)).reshape(terms.shape[:-1])


def blocked(generator: Generator, terms: Tensor) -> Tensor:
    """Sum over the last axis in blocks."""
    block = draw(generator, _BLOCKS)
    pad = -terms.shape[-1] % block
    parts = functional.pad(terms, (0, pad)).unflatten(-1, (-1, block))
    return running(running(parts))


def total(
    generator: Generator, x: Tensor, dims: Any, keepdim: bool, *, long: bool = True
) -> Tensor:
    """Sum over some axes in another order.

    Args:
        long: a long axis is blocked; else it is added one term after the other.
    """
    only_if(x.dim() > 0 and x.dtype in (torch.float32, torch.float64))
    gone = axes_of(dims, x.dim())
    kept = [axis for axis in range(x.dim()) if axis not in gone]
    terms = x.permute(*kept, *gone).flatten(len(kept))
    only_if(terms.numel() > 0)
    terms = terms[..., order(generator, terms.shape[-1])].contiguous()
    plain = not long and terms.shape[-1] <= _MOST_TERMS
    result = running(terms) if plain else blocked(generator, terms)
    return (
        result.reshape([1 if a in gone else n for a, n in enumerate(x.shape)])
        if keepdim
        else result
    )


def summed(generator: Generator, x: Tensor, dims: Any = None, keepdim: bool = False) -> Tensor:
    """``aten.sum``, one term after the other as onnxruntime adds; torch adds sums of parts.

    The order alone would not do: of equal terms every order is the same, and torch's sum of parts
    may then be exact where a running sum is not.
    """
    return total(generator, x, dims, keepdim, long=False)


def averaged(generator: Generator, x: Tensor, dims: Any = None, keepdim: bool = False) -> Tensor:
    """``aten.mean``."""
    result = summed(generator, x, dims, keepdim)
    return result / (x.numel() / result.numel())


def _moments(
    generator: Generator, x: Tensor, dims: Any, ddof: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Mean and variance over some axes, which are kept with one element."""
    count = math.prod(x.shape[a] for a in axes_of(dims, x.dim())) if x.dim() else 0
    only_if(count > ddof)
    mean = total(generator, x, dims, True) / count
    return mean, total(generator, (x - mean).square(), dims, True) / (count - ddof)


def _without(x: Tensor, dims: Any, keepdim: bool, rank: int) -> Tensor:
    if keepdim:
        return x
    gone = axes_of(dims, rank)
    return x.reshape([n for axis, n in enumerate(x.shape) if axis not in gone])


def variance(
    generator: Generator,
    x: Tensor,
    dims: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """``aten.var``, two passes."""
    if isinstance(dims, bool):
        dims, unbiased = None, dims
    ddof = (1.0 if unbiased else 0.0) if correction is None else float(correction)
    return _without(_moments(generator, x, dims, ddof)[1], dims, keepdim, x.dim())


def deviation(generator: Generator, *args: Any, **kwargs: Any) -> Tensor:
    """``aten.std``."""
    return variance(generator, *args, **kwargs).sqrt()


def layer_norm(
    generator: Generator,
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    """``aten.layer_norm``."""
    mean, squares = _moments(generator, x, list(range(-len(shape), 0)))
    y = (x - mean) * torch.rsqrt(squares + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(
    generator: Generator,
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """``aten.rms_norm``."""
    mean_square = total(generator, x.square(), list(range(-len(shape), 0)), True)
    small = torch.finfo(x.dtype).eps if eps is None else eps
    y = x * torch.rsqrt(mean_square / math.prod(shape) + small)
    return y if weight is None else y * weight


def group_norm(
    generator: Generator,
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    """``aten.group_norm``: x ``[B, C, ...]``."""
    grouped = x.reshape(x.shape[0], groups, -1)
    mean, squares = _moments(generator, grouped, [-1])
    y = ((grouped - mean) * torch.rsqrt(squares + eps)).reshape(x.shape)
    shape = (1, -1, *[1] * (x.dim() - 2))
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def instance_norm(
    generator: Generator,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    from_input: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    """``aten.instance_norm`` with the statistics of its input."""
    only_if(from_input)
    return group_norm(generator, x, x.shape[1], weight, bias, eps)


def softmax(generator: Generator, x: Tensor, dim: int, *_: Any) -> Tensor:
    """``aten.softmax``."""
    powers = (x - x.amax(dim, keepdim=True)).exp()
    return powers / total(generator, powers, dim, True)


def log_softmax(generator: Generator, x: Tensor, dim: int, *_: Any) -> Tensor:
    """``aten.log_softmax``."""
    less = x - x.amax(dim, keepdim=True)
    return less - total(generator, less.exp(), dim, True).log()


def logsumexp(generator: Generator, x: Tensor, dims: Any, keepdim: bool = False) -> Tensor:
    """``aten.logsumexp``."""
    most = x.amax(axes_of(dims, x.dim()), keepdim=True)
    only_if(bool(torch.isfinite(most).all()))
    result = total(generator, (x - most).exp(), dims, True).log() + most
    return _without(result, dims, keepdim, x.dim())


def vector_norm(
    generator: Generator,
    x: Tensor,
    power: float = 2,
    dims: Any = None,
    keepdim: bool = False,
) -> Tensor:
    """``aten.linalg_vector_norm`` of power 1 or 2."""
    only_if(power in (1, 2))
    result = total(generator, x.abs() if power == 1 else x.square(), dims, keepdim)
    return result if power == 1 else result.sqrt()


def cumulative_sum(generator: Generator, x: Tensor, dim: int) -> Tensor:
    """``aten.cumsum``: one term after the other, or in blocks whose sums are carried on.

    Generators of an even seed give the former, so that a handful of draws has both.
    """
    only_if(x.is_floating_point() and x.dim() > 0 and x.numel() > 0)
    terms = x.movedim(dim, -1).contiguous()
    plain = generator.initial_seed() % 2 == 0
    block = terms.shape[-1] if plain else draw(generator, _BLOCKS)
    parts = functional.pad(terms, (0, -terms.shape[-1] % block)).unflatten(-1, (-1, block))
    inside = _scan(parts)
    before = functional.pad(_scan(inside[..., -1].contiguous())[..., :-1], (1, 0))
    sums = (inside + before.unsqueeze(-1)).flatten(-2)[..., : terms.shape[-1]]
    return sums.movedim(-1, dim)


def _scan(x: Tensor) -> Tensor:
    return torch.from_numpy(np.cumsum(x.numpy(), axis=-1, dtype=x.numpy().dtype))


def cumulative_product(generator: Generator, x: Tensor, dim: int) -> Tensor:
    """``aten.cumprod``, one factor after the other."""
    only_if(x.is_floating_point() and x.dim() > 0)
    return torch.from_numpy(np.cumprod(x.numpy(), axis=dim, dtype=x.numpy().dtype))


def log_cumulative(generator: Generator, x: Tensor, dim: int) -> Tensor:
    """``aten.logcumsumexp``, one term after the other."""
    only_if(x.dim() > 0 and 0 < x.shape[dim] <= _MOST_TERMS)
    sums = np.logaddexp.accumulate(x.numpy(), axis=dim)
    return torch.from_numpy(np.ascontiguousarray(sums))


def index_add(
    generator: Generator, x: Tensor, dim: int, index: Tensor, source: Tensor, **options: Any
) -> Tensor:
    """``aten.index_add``, its rows in another order."""
    turn = order(generator, index.shape[0])
    return torch.index_add(x, dim, index[turn], source.index_select(dim, turn), **options)


def scatter_add(generator: Generator, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """``aten.scatter_add``, its terms in another order."""
    only_if(index.dim() > 0)
    turn = order(generator, index.shape[dim])
    cut = source[tuple(slice(0, n) for n in index.shape)]
    return torch.scatter_add(x, dim, index.index_select(dim, turn), cut.index_select(dim, turn))


def pooled(generator: Generator, x: Tensor, size: Any, *_: Any) -> Tensor:
    """``aten.adaptive_avg_pool1d`` and ``2d`` to a single element."""
    sizes = [size] if isinstance(size, int) else list(size)
    only_if(all(n == 1 for n in sizes))
    dims = list(range(-len(sizes), 0))
    return total(generator, x, dims, True) / math.prod(x.shape[a] for a in dims)


SUMS: dict[str, Kernel] = {
    "aten.sum.default": summed,
    "aten.sum.dim_IntList": summed,
    "aten.mean.default": averaged,
    "aten.mean.dim": averaged,
    "aten.var.correction": variance,
    "aten.var.dim": variance,
    "aten.var.default": variance,
    "aten.std.correction": deviation,
    "aten.std.dim": deviation,
    "aten.std.default": deviation,
    "aten.layer_norm.default": layer_norm,
    "aten.rms_norm.default": rms_norm,
    "aten.group_norm.default": group_norm,
    "aten.instance_norm.default": instance_norm,
    "aten.softmax.int": softmax,
    "aten._softmax.default": softmax,
    "aten.log_softmax.int": log_softmax,
    "aten._log_softmax.default": log_softmax,
    "aten.logsumexp.default": logsumexp,
    "aten.linalg_vector_norm.default": vector_norm,
    "aten.norm.ScalarOpt_dim": vector_norm,
    "aten.cumsum.default": cumulative_sum,
    "aten.cumprod.default": cumulative_product,
    "aten.logcumsumexp.default": log_cumulative,
    "aten.index_add.default": index_add,
    "aten.scatter_add.default": scatter_add,
    "aten.adaptive_avg_pool1d.default": pooled,
    "aten.adaptive_avg_pool2d.default": pooled,
}
