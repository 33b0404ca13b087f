"""The free float64 value of a linear map from the local one, at half the cost.

Both float64 runs send nearly the same input through the same weight::

    free = W x_free + b = (W x_local + b) + W (x_free - x_local)

The difference of the inputs is what rounding has made of them so far, a millionth of their size.
float32 has far more digits than such a small term needs: its product is wrong by at most
``n u |W| |x_free - x_local|`` (Higham, Accuracy and Stability of Numerical Algorithms, section
3.5), so with the difference below ``LARGEST`` of the input the result differs from the float64
product by less than ``n u LARGEST``, and in practice by the square root of n in place of n. A
larger difference is not taken: the product is then computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from exporter.parity.one_pass import has_compiler

Multiply = Callable[[Tensor, Tensor], Tensor]

LARGEST = 2.0**-14
"""Largest difference of the inputs, relative to their largest element."""
SMALLEST = 1e-30
"""A difference below this would be multiplied among float32's subnormal numbers."""


def add_change(
    local: Tensor, x_free: Tensor, x_local: Tensor, weight: Tensor, multiply: Multiply
) -> Tensor | None:
    """``W x_free + b`` from ``local = W x_local + b``; None when the inputs are too far apart.

    Args:
        local: ``[..., out]`` float64.
        x_free: ``[..., in]`` float64. x_local: the same shape, float64 or float32.
        weight: ``[out, in]`` float32.
        multiply: computes ``x @ weight.T``.
    """
    if weight.dtype != torch.float32 or x_free.shape != x_local.shape or not x_free.numel():
        return None
    change, largest, size = _subtract(x_free, x_local)
    if largest == 0.0 and size < math.inf:
        return local
    # Also False for NaN and Inf.
    if not SMALLEST < largest <= LARGEST * size:
        return None
    # Widened before it is added, in place: torch would make a copy to widen and one for the sum.
    return multiply(change, weight).to(torch.float64).add_(local)


def _subtract(x_free: Tensor, x_local: Tensor) -> tuple[Tensor, float, float]:
    """The difference, rounded once to float32; the largest magnitudes of it and of ``x_local``."""
    change = torch.empty(x_free.shape, dtype=torch.float32)
    dtypes = x_free.dtype == torch.float64 and x_local.dtype in (torch.float32, torch.float64)
    if has_compiler() and dtypes and x_free.is_contiguous() and x_local.is_contiguous():
        from exporter.interpret import compiled_change

        arrays = (x.detach().reshape(-1).numpy() for x in (x_free, x_local, change))
        return change, *compiled_change.subtract(*arrays)
    torch.sub(x_free, x_local, out=change)
    return change, _largest(change), _largest(x_local)


def _largest(x: Tensor) -> float:
    low, high = torch.aminmax(x)
    return max(-float(low), float(high))
