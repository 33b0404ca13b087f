"""The compiled loops behind ``one_pass``, which alone imports this file: that loads numba.

Only sums may be reordered (that is what lets a compiler use wide registers); every other operation
is the one that is written here, so that NaN and Inf mean what IEEE 754 says they mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

STEP = 4096
"""Elements per inner loop: three arrays of them stay in the innermost cache."""

MAGNITUDE, MAGNITUDE_32 = np.int64(0x7FFFFFFFFFFFFFFF), np.int32(0x7FFFFFFF)
_CONFIG: Any = config  # its settings are made at run time, from the environment
_INFINITE, _INFINITE_32 = np.int64(0x7FF0000000000000), np.int32(0x7F800000)


def _intrinsic(build: Callable[..., Any]) -> Callable[..., Any]:
    """numba's ``intrinsic``, with a type: inside of loops its first parameter is not given."""
    return intrinsic(build)


@_intrinsic
def bits(typing: Any, x: Any) -> Any:
    """The bits of a float as a signed integer of the same width."""
    result = {types.float64: types.int64, types.float32: types.int32}[x]

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return result(x), code


@_intrinsic
def from_bits(typing: Any, x: Any) -> Any:
    """The float64 that has these bits."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return types.float64(types.int64), code


@_intrinsic
def _add_in_any_order(typing: Any, total: Any, x: Any) -> Any:
    """A sum whose terms the compiler may group as it likes."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(args[0], args[1], flags=("reassoc",))

    return types.float64(types.float64, types.float64), code


def compiled(signature: Any) -> Callable[[Any], Any]:
    """Compile for one signature, or load what an earlier process has compiled."""

    def build(function: Any) -> Any:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        # NUMBA_DISABLE_JIT is for who looks for a bug in Python code; these loops are no Python.
        disabled, _CONFIG.DISABLE_JIT = _CONFIG.DISABLE_JIT, 0
        try:
            return numba.njit(signature, cache=True, **options)(function)
        except RuntimeError:  # nowhere to keep it: neither beside the source nor at home
            return numba.njit(signature, **options)(function)
        finally:
            _CONFIG.DISABLE_JIT = disabled

    return build


_F8, _I8, _I4 = types.float64, types.int64, types.int32
_WIDE, _PLAIN, _COUNTS = types.float64[::1], types.float32[::1], types.int64[::1]


@compiled(types.Tuple((_F8, _F8, _F8, _I8, _I8, _I8, _I4))(_WIDE, _PLAIN, _PLAIN))
def _block(t: Any, r: Any, a: Any) -> Any:
    square_a = square_r = square_t = 0.0
    peak_a = peak_r = peak_t = np.int64(0)
    different = np.int32(0)
    for i in range(t.size):
        value, left, right = t[i], r[i], a[i]
        from_a, from_r = np.float64(right) - value, np.float64(left) - value
        square_a = _add_in_any_order(square_a, from_a * from_a)
        square_r = _add_in_any_order(square_r, from_r * from_r)
        square_t = _add_in_any_order(square_t, value * value)
        peak_a = max(peak_a, bits(from_a) & MAGNITUDE)
        peak_r = max(peak_r, bits(from_r) & MAGNITUDE)
        peak_t = max(peak_t, bits(value) & MAGNITUDE)
        different |= bits(left) ^ bits(right)
    return square_a, square_r, square_t, peak_a, peak_r, peak_t, different


@compiled(_I8(_WIDE, _PLAIN, _I8))
def _first(t: Any, x: Any, peak: Any) -> Any:
    for i in range(t.size):
        if bits(np.float64(x[i]) - t[i]) & MAGNITUDE == peak:
            return i
    return -1


@compiled(types.void(_WIDE, _PLAIN, _PLAIN, _WIDE, _COUNTS))
def compare(t: Any, r: Any, a: Any, floats: Any, integers: Any) -> None:
    """Fill what ``one_pass.PassFigures`` has: three sums of squares and peaks; places, flags."""
    square_a = square_r = square_t = 0.0
    peak_a = peak_r = peak_t = np.int64(0)
    at_a = at_r = np.int64(-1)
    different = np.int32(0)
    for start in range(0, t.size, STEP):
        end = min(t.size, start + STEP)
        s_a, s_r, s_t, p_a, p_r, p_t, differ = _block(t[start:end], r[start:end], a[start:end])
        square_a, square_r, square_t = square_a + s_a, square_r + s_r, square_t + s_t
        if p_a > peak_a:
            peak_a, at_a = p_a, start
        if p_r > peak_r:
            peak_r, at_r = p_r, start
        peak_t = max(peak_t, p_t)
        different |= differ
    if at_a >= 0:
        end = min(t.size, at_a + STEP)
        at_a += _first(t[at_a:end], a[at_a:end], peak_a)
    if at_r >= 0:
        end = min(t.size, at_r + STEP)
        at_r += _first(t[at_r:end], r[at_r:end], peak_r)
    floats[0], floats[1], floats[2] = square_a, square_r, square_t
    floats[3], floats[4] = from_bits(peak_a), from_bits(peak_r)
    floats[5] = from_bits(peak_t)
    integers[0], integers[1] = at_a, at_r
    integers[2] = max(peak_a, max(peak_r, peak_t)) >= _INFINITE
    integers[3] = different != 0


@compiled(types.UniTuple(_I4, 2)(_PLAIN, _PLAIN))
def _block_pair(r: Any, a: Any) -> Any:
    different = peak = np.int32(0)
    for i in range(r.size):
        left = bits(r[i])
        different |= left ^ bits(a[i])
        peak = max(peak, left & MAGNITUDE_32)
    return different, peak


@compiled(_I8(_PLAIN, _PLAIN))
def compare_pair(r: Any, a: Any) -> Any:
    """Bit 0: a difference was found (and nothing behind it was read); bit 1: NaN or Inf in r."""
    not_finite = np.int64(0)
    for start in range(0, r.size, STEP):
        end = min(r.size, start + STEP)
        different, peak = _block_pair(r[start:end], a[start:end])
        if peak >= _INFINITE_32:
            not_finite = np.int64(2)
        if different != 0:
            return not_finite | np.int64(1)
    return not_finite
