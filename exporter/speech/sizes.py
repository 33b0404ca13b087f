"""Arithmetic on sizes that are symbolic while a module is traced."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor


def at_least(size: int, minimum: int) -> int:
    """Return the larger of the two, as one symbolic expression under torch.export."""
    return cast(int, torch.sym_max(size, minimum))


def data_dependent(size: int, *, like: Tensor, minimum: int = 0) -> int:
    """Return ``size`` unchanged, hiding from torch.export that it follows from an input's shape.

    A size derived from an input's shape is specialised whenever the trace asks whether it is 0
    or 1: the captured program then refuses short inputs although its ONNX runs them. A size
    read from a tensor's data is not, and behaves in ONNX exactly alike.

    Args:
        size: a non-negative integer, symbolic under torch.export.
        like: a tensor whose device is used.
        minimum: what ``size`` is known to reach.
    """
    value = cast(int, torch.full((), size, dtype=torch.int64, device=like.device).item())
    torch._check(value >= minimum)
    return value
