"""What each op on complex numbers is on their real and imaginary parts.

An op without a rule is taken apart by torch until there are rules for what it becomes.

    mul       (a + bi)(c + di) = (ac - bd) + (ad + bc)i      with a real factor: two products
    abs       sqrt(a a + b b)
    _fft_r2c  ``real_dft`` along the last axis, ``dft`` along the others
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from exporter.graph.repairs.complex_table import (
    Pair,
    for_both,
    pair_of,
    parts_of,
    rule_for,
    widened_to,
)
from exporter.graph.repairs.fourier_ops import dft, real_dft, real_inverse_dft

_ATEN: Any = torch.ops.aten


# Between pairs and real numbers.


@rule_for("real")
def _real(z: Pair) -> Any:
    return z.re


@rule_for("imag")
def _imag(z: Pair) -> Any:
    return z.im


@rule_for("view_as_real", "view_as_real_copy")
def _view_as_real(z: Pair) -> Any:
    return torch.stack((z.re, z.im), -1)


@rule_for("view_as_complex", "view_as_complex_copy")
def _view_as_complex(x: Any) -> Pair:
    return Pair(x.select(-1, 0), x.select(-1, 1))


@rule_for("view.dtype")
def _view_dtype(x: Any, dtype: torch.dtype) -> Any:
    """Real numbers of the last axis, two by two, as complex ones, and back."""
    if isinstance(x, Pair) and dtype == x.re.dtype:
        return _view_as_real(x).flatten(-2)
    if isinstance(x, Tensor) and dtype.is_complex and dtype.to_real() == x.dtype:
        return _view_as_complex(x.unflatten(-1, (x.shape[-1] // 2, 2)))
    raise TypeError(f"its numbers are looked at as {dtype}")


@rule_for("complex")
def _complex(re: Any, im: Any) -> Pair:
    return Pair(widened_to(re, im), widened_to(im, re))


@rule_for("polar")
def _polar(length: Any, angle: Any) -> Pair:
    return Pair(length * torch.cos(angle), length * torch.sin(angle))


@rule_for("abs")
def _abs(z: Pair) -> Any:
    return torch.sqrt(z.re * z.re + z.im * z.im)


@rule_for("angle")
def _angle(z: Pair) -> Any:
    # Of an imaginary part that is zero the sign is not kept: it would be -pi by chance.
    behind = (z.im == 0) & (z.re < 0)
    return torch.where(behind, math.pi, torch.atan2(z.im, z.re))


@rule_for("eq")
def _eq(a: Any, b: Any) -> Any:
    (ar, ai), (br, bi) = parts_of(a), parts_of(b)
    return (ar == br) & ((0 if ai is None else ai) == (0 if bi is None else bi))


@rule_for("ne")
def _ne(a: Any, b: Any) -> Any:
    return ~_eq(a, b)


@rule_for("isnan", "isinf", with_op=True)
def _either(op: Any, z: Pair) -> Any:
    return op(z.re) | op(z.im)


@rule_for("isfinite")
def _isfinite(z: Pair) -> Any:
    return torch.isfinite(z.re) & torch.isfinite(z.im)


@rule_for("var", with_op=True)
def _var(op: Any, z: Pair, *args: Any, **kwargs: Any) -> Any:
    return op(z.re, *args, **kwargs) + op(z.im, *args, **kwargs)


@rule_for("linalg_vector_norm", "norm", with_op=True)
def _norm(op: Any, z: Pair, *args: Any, **kwargs: Any) -> Any:
    return op(_abs(z), *args, **kwargs)


# Arithmetic.


@rule_for("_conj", "conj", "conj_physical", "_conj_physical")
def _conj(z: Pair) -> Pair:
    return Pair(z.re, -z.im)


@rule_for("resolve_conj", "resolve_neg")
def _itself(z: Any) -> Any:
    return z


@rule_for("add")
def _add(a: Any, b: Any, alpha: Any = 1) -> Pair:
    b = b if alpha == 1 else _mul(b, alpha)
    (ar, ai), (br, bi) = parts_of(a), parts_of(b)
    re = ar + br
    if ai is None or bi is None:
        im: Any
        im, other = (ai, br) if bi is None else (bi, ar)
        return Pair(
            re, widened_to(im, other) if isinstance(im, Tensor) else torch.full_like(re, im)
        )
    return Pair(re, ai + bi)


@rule_for("sub")
def _sub(a: Any, b: Any, alpha: Any = 1) -> Pair:
    return _add(a, _mul(b, -alpha))


@rule_for("rsub")
def _rsub(a: Any, b: Any, alpha: Any = 1) -> Pair:
    return _sub(b, a, alpha)


@rule_for("mul")
def _mul(a: Any, b: Any) -> Any:
    return _product(operator.mul, a, b)


def _product(op: Any, a: Any, b: Any) -> Any:
    (ar, ai), (br, bi) = parts_of(a), parts_of(b)
    if ai is None and bi is None:
        return op(ar, br)
    if ai is None:
        return Pair(op(ar, br), op(ar, bi))
    if bi is None:
        return Pair(op(ar, br), op(ai, br))
    return Pair(op(ar, br) - op(ai, bi), op(ar, bi) + op(ai, br))


@rule_for("div", "true_divide")
def _div(a: Any, b: Any) -> Pair:
    br, bi = parts_of(b)
    if bi is None:
        re, im = parts_of(a)
        return Pair(re / br, im / br)
    above = pair_of(_product(operator.mul, a, _conj(pair_of(b))))
    below = br * br + bi * bi
    return Pair(above.re / below, above.im / below)


@rule_for("reciprocal")
def _reciprocal(z: Pair) -> Pair:
    return _div(1.0, z)


@rule_for("exp")
def _exp(z: Pair) -> Pair:
    return _polar(torch.exp(z.re), z.im)


@rule_for("log")
def _log(z: Pair) -> Pair:
    return Pair(torch.log(_abs(z)), _angle(z))


@rule_for("sqrt")
def _sqrt(z: Pair) -> Pair:
    return _polar(torch.sqrt(_abs(z)), _angle(z) / 2)


@rule_for("pow")
def _pow(a: Any, b: Any) -> Any:
    if isinstance(b, (int, float)) and b == int(b) and 1 <= abs(b) <= 8:
        found = a
        for _ in range(int(abs(b)) - 1):
            found = _mul(found, a)
        return found if b > 0 else _reciprocal(found)
    if b == 0.5:
        return _sqrt(a)
    if isinstance(b, (int, float)):
        return _polar(_abs(a) ** b, _angle(a) * b)
    if isinstance(a, (int, float)) and a > 0:
        return _exp(_mul(b, math.log(a)))
    return _exp(pair_of(_mul(_log(pair_of(a)), b)))


@rule_for("sgn")
def _sgn(z: Pair) -> Pair:
    length = _abs(z)
    length = torch.where(length == 0, torch.ones_like(length), length)
    return Pair(z.re / length, z.im / length)


# Products of matrices, and what filters.


@rule_for("mm", "bmm", "mv", "dot", "matmul")
def _matmul(a: Any, b: Any) -> Any:
    return _product(torch.matmul, a, b)


@rule_for("linear")
def _linear(x: Any, weight: Any, bias: Any = None) -> Any:
    found = _product(torch.nn.functional.linear, x, weight)
    return found if bias is None else _add(found, bias)


@rule_for("addmm", "baddbmm", "addmv", "addbmm")
def _addmm(added: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    found = _matmul(a, b)
    found = found if alpha == 1 else _mul(found, alpha)
    return _add(found, added if beta == 1 else _mul(added, beta))


@rule_for(
    "convolution",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    with_op=True,
)
def _convolution(op: Any, x: Any, weight: Any, bias: Any = None, *others: Any, **named: Any) -> Any:
    found = _product(lambda a, b: op(a, b, None, *others, **named), x, weight)
    if bias is None:
        return found
    axes = found.re.dim() - 2
    return _add(found, for_both(_ATEN.view.default, pair_of(bias), [-1] + [1] * axes))


# Choosing and writing.


@rule_for("where")
def _where(mask: Any, a: Any, b: Any) -> Pair:
    a, b = pair_of(a), pair_of(b)
    return Pair(torch.where(mask, a.re, b.re), torch.where(mask, a.im, b.im))


@rule_for("masked_fill")
def _masked_fill(z: Any, mask: Any, value: Any) -> Pair:
    return _where(mask, value, z)


@rule_for("constant_pad_nd", "pad", with_op=True)
def _padded(op: Any, z: Pair, pad: Any, *args: Any, **kwargs: Any) -> Pair:
    def half(value: Any, part: str) -> Any:
        # The number that it is padded with is real where it does not say otherwise.
        return getattr(value, part) if isinstance(value, (complex, float, int)) else value

    def of(held: Any, part: str) -> Any:
        named = {key: half(value, part) for key, value in kwargs.items()}
        return op(held, pad, *(half(value, part) for value in args), **named)

    return Pair(of(z.re, "real"), of(z.im, "imag"))


@rule_for("copy")
def _copy(z: Any, source: Any, non_blocking: bool = False) -> Pair:
    return pair_of(source)


@rule_for("fill")
def _fill(z: Pair, value: Any) -> Pair:
    re, im = parts_of(value)
    im = 0.0 if im is None else im
    return Pair(torch.zeros_like(z.re) + re, torch.zeros_like(z.im) + im)


@rule_for("zero")
def _zero(z: Pair) -> Pair:
    return Pair(torch.zeros_like(z.re), torch.zeros_like(z.im))


@rule_for("index_put")
def _index_put(z: Any, indices: Any, values: Any, accumulate: bool = False) -> Pair:
    z, values = pair_of(z), pair_of(values)
    return Pair(
        torch.index_put(z.re, indices, values.re, accumulate),
        torch.index_put(z.im, indices, values.im, accumulate),
    )


# Transforms.


def _along(z: Pair, axis: int, *, forward: bool, scaling: int) -> Pair:
    turned = torch.stack((z.re.movedim(axis, -1), z.im.movedim(axis, -1)), -1)
    found = dft(turned, forward, scaling)
    return Pair(found.select(-1, 0).movedim(-1, axis), found.select(-1, 1).movedim(-1, axis))


@rule_for("_fft_c2c")
def _fft_c2c(z: Any, dim: Sequence[int], normalization: int, forward: bool) -> Pair:
    z = pair_of(z)
    for axis in dim:
        z = _along(z, axis, forward=forward, scaling=normalization)
    return z


@rule_for("_fft_r2c")
def _fft_r2c(x: Any, dim: Sequence[int], normalization: int, onesided: bool) -> Pair:
    found = real_dft(x.movedim(dim[-1], -1), onesided, normalization)
    z = Pair(
        found.select(-1, 0).movedim(-1, dim[-1]),
        found.select(-1, 1).movedim(-1, dim[-1]),
    )
    return _fft_c2c(z, dim[:-1], normalization, True)


@rule_for("_fft_c2r")
def _fft_c2r(z: Pair, dim: Sequence[int], normalization: int, last_dim_size: Any) -> Any:
    z = _fft_c2c(z, dim[:-1], normalization, False)
    turned = torch.stack((z.re.movedim(dim[-1], -1), z.im.movedim(dim[-1], -1)), -1)
    return real_inverse_dft(turned, last_dim_size, normalization).movedim(-1, dim[-1])
