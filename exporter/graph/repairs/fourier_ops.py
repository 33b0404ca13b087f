"""Fourier transforms of the last axis on pairs of reals, as ops that a program and ONNX have.

    real_dft(x [..., N], onesided, scaling)  -> [..., F, 2]    F = N // 2 + 1 if onesided, else N
    dft(z [..., N, 2], forward, scaling)     -> [..., N, 2]
    real_inverse_dft(z [..., N // 2 + 1, 2], size N, scaling) -> [..., N]

The last axis of 2 is a real and an imaginary part. They are computed by torch's own transforms, so
in PyTorch they have torch's bits. ``scaling`` is torch's: 0 none, 1 by 1 / sqrt(N), 2 by 1 / N.
In ONNX a transform of a fixed size is a product with cosines and sines that are stored, where these
take little room, or onnxruntime's DFT would lose two digits, as it does for all but powers of two.
Otherwise it is a DFT, as is one whose size is known only when the file runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import DOUBLE, FLOAT, INT64
from torch import Tensor

from exporter.graph.recurrent import op
from exporter.graph.repairs.sequence_ops import NAMESPACE

_LARGEST = 2048
"""Above it a stored matrix takes more than 30 MB: a DFT is written, whatever digits it loses."""
_SMALL = 512
"""Up to it a matrix takes a MB or two: a product, which is exact where a part must be 0."""

_ATEN = torch.ops.aten


@torch.library.custom_op(f"{NAMESPACE}::real_dft", mutates_args=())
def real_dft(x: Tensor, onesided: bool, scaling: int) -> Tensor:
    """Real numbers to their spectrum; see this module."""
    return torch.view_as_real(_ATEN._fft_r2c(x, [x.dim() - 1], scaling, onesided)).clone()


@torch.library.custom_op(f"{NAMESPACE}::dft", mutates_args=())
def dft(z: Tensor, forward: bool, scaling: int) -> Tensor:
    """Complex numbers to their spectrum, and back; see this module."""
    spectrum = torch.view_as_complex(z.contiguous())
    return torch.view_as_real(
        _ATEN._fft_c2c(spectrum, [spectrum.dim() - 1], scaling, forward)
    ).clone()


@torch.library.custom_op(f"{NAMESPACE}::real_inverse_dft", mutates_args=())
def real_inverse_dft(z: Tensor, size: int, scaling: int) -> Tensor:
    """The spectrum of real numbers back to these; see this module."""
    spectrum = torch.view_as_complex(z.contiguous())
    return _ATEN._fft_c2r(spectrum, [spectrum.dim() - 1], scaling, size).clone()


@real_dft.register_fake
def _(x, onesided, scaling):  # noqa: ANN001, ANN202
    size = x.shape[-1]
    return x.new_empty((*x.shape[:-1], size // 2 + 1 if onesided else size, 2))


@dft.register_fake
def _(z, forward, scaling):  # noqa: ANN001, ANN202
    return z.new_empty(z.shape)


@real_inverse_dft.register_fake
def _(z, size, scaling):  # noqa: ANN001, ANN202
    return z.new_empty((*z.shape[:-2], size))


FOURIER: dict[str, Callable[..., Any]] = {
    f"{NAMESPACE}.{held._name}.default": held._init_fn for held in (real_dft, dft, real_inverse_dft)
}
"""Target -> the function behind it, whose gradients are those of torch's transforms."""


def _angles(size: int, rows: int, columns: int, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines ``[rows, columns]`` of ``sign * 2 pi row column / size``, in float64.

    Multiples of a quarter turn are exact: a sine of 1e-16 in the place of 0 gives an imaginary part
    a sign that it does not have, and with it an angle of -pi in the place of pi.
    """
    turns = np.outer(np.arange(rows), np.arange(columns)) % size
    angles = sign * 2 * np.pi * turns / size
    cosines, sines = np.cos(angles), np.sin(angles)
    cosines[4 * turns % (2 * size) == size] = 0.0
    sines[2 * turns % size == 0] = 0.0
    return cosines, sines


def _scale(size: int, scaling: int) -> float:
    return {0: 1.0, 1: size**-0.5, 2: 1.0 / size}[scaling]


def _is_product(size: Any) -> bool:
    if not isinstance(size, int):
        return False
    return size <= (_LARGEST if size & (size - 1) else _SMALL)


def _product(x: Any, matrix: np.ndarray, like: Any) -> Any:
    """``x @ matrix``; ``like`` has the type of ``x``, which may not know it."""
    wide = np.float64 if like.dtype == DOUBLE.dtype else np.float32
    constant = op.Constant(value=ir.tensor(np.ascontiguousarray(matrix, dtype=wide)))
    plain = like.dtype in (FLOAT.dtype, DOUBLE.dtype)
    return op.MatMul(x, constant if plain else op.CastLike(constant, x))


def _ints(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


def _scaled(y: Any, size: Any, scaling: int, *, inverse: bool) -> Any:
    """ONNX's inverse divides by the size by itself."""
    if scaling == (2 if inverse else 0):
        return y
    count = op.CastLike(size, y)
    if scaling == 1:
        return op.Mul(y, op.Sqrt(count)) if inverse else op.Div(y, op.Sqrt(count))
    return op.Mul(y, count) if inverse else op.Div(y, count)


def _dft_of(z: Any, rank: int, size: Any, scaling: int, *, inverse: bool, onesided: bool) -> Any:
    """``z [..., N, 1 or 2]`` -> ``[..., F, 2]``; ONNX wants an axis in front of the transformed."""
    single = rank == 2
    z = op.Unsqueeze(z, _ints(0)) if single else z
    axis = rank - 1 if single else rank - 2
    y = op.DFT(z, axis=axis, inverse=int(inverse), onesided=int(onesided))
    y = _scaled(y, size, scaling, inverse=inverse)
    return op.Squeeze(y, _ints(0)) if single else y


def _real_dft(x: Any, onesided: bool, scaling: int) -> Any:
    size, rank = x.shape[-1], len(x.shape)
    if _is_product(size):
        bins = size // 2 + 1 if onesided else size
        matrix = np.stack(_angles(size, size, bins, -1.0), axis=-1) * _scale(size, scaling)
        y = _product(x, matrix.reshape(size, 2 * bins), x)
        shape = op.Concat(op.Shape(x, end=rank - 1), _ints(bins, 2), axis=0)
        return op.Reshape(y, shape)
    length = op.Shape(x, start=rank - 1, end=rank)
    z = op.Unsqueeze(x, _ints(-1))
    return _dft_of(z, rank + 1, length, scaling, inverse=False, onesided=onesided)


def _dft(z: Any, forward: bool, scaling: int) -> Any:
    size, rank = z.shape[-2], len(z.shape)
    if _is_product(size):
        cosines, sines = _angles(size, size, size, -1.0 if forward else 1.0)
        matrix = np.stack([cosines, sines, -sines, cosines]).reshape(2, 2, size, size)
        matrix = matrix.transpose(2, 0, 3, 1).reshape(2 * size, 2 * size) * _scale(size, scaling)
        flat = op.Reshape(z, op.Concat(op.Shape(z, end=rank - 2), _ints(2 * size), axis=0))
        return op.Reshape(_product(flat, matrix, z), op.Shape(z))
    length = op.Shape(z, start=rank - 2, end=rank - 1)
    return _dft_of(z, rank, length, scaling, inverse=not forward, onesided=False)


def _real_inverse_dft(z: Any, size: Any, scaling: int) -> Any:
    rank = len(z.shape)
    if _is_product(size):
        bins = size // 2 + 1
        cosines, sines = _angles(size, bins, size, 1.0)
        # All but the first bin, and the one in the middle, stand for two.
        twice = np.full((bins, 1), 2.0)
        twice[0] = 1.0
        if size % 2 == 0:
            twice[-1] = 1.0
        matrix = np.stack([twice * cosines, -twice * sines], axis=1).reshape(2 * bins, size)
        shape = op.Concat(op.Shape(z, end=rank - 2), _ints(2 * bins), axis=0)
        return _product(op.Reshape(z, shape), matrix * _scale(size, scaling), z)
    # The bins that are left out are the conjugates of those in between, in reverse order.
    length = op.Constant(value_ints=[size]) if isinstance(size, int) else op.Reshape(size, _ints(1))
    length = op.Cast(length, to=INT64.dtype)
    last = op.Sub(length, op.Shape(z, start=rank - 2, end=rank - 1))
    turned = op.Slice(z, last, _ints(0), _ints(rank - 2), _ints(-1))
    turned = op.Mul(turned, op.CastLike(op.Constant(value_floats=[1.0, -1.0]), z))
    whole = op.Concat(z, turned, axis=rank - 2)
    y = _dft_of(whole, rank, length, scaling, inverse=True, onesided=False)
    return op.Gather(y, op.Constant(value_int=0), axis=rank - 1)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.export_verify.real_dft.default: _real_dft,
    torch.ops.export_verify.dft.default: _dft,
    torch.ops.export_verify.real_inverse_dft.default: _real_inverse_dft,
}
