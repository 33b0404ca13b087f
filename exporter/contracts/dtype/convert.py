"""Copies of a module at another precision, on the CPU or (without memory) on the meta device."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def converted(module: nn.Module, precision: str, *, device: str) -> nn.Module:
    """A copy of ``module`` with its floating parameters and buffers in ``precision``.

    Args:
        precision: float16 or bfloat16 convert; ``as_built`` and ``autocast_*`` do not.
        device: "cpu", or "meta" for shapes and dtypes only.
    """
    target = None
    if precision != "as_built" and not precision.startswith("autocast_"):
        target = getattr(torch, precision)
    memo: dict[int, Any] = {}
    for value in [*module.parameters(), *module.buffers()]:
        dtype = target if target is not None and value.is_floating_point() else value.dtype
        moved = value.detach().to(device=device, dtype=dtype, copy=True)
        if isinstance(value, nn.Parameter):
            moved = nn.Parameter(moved, requires_grad=False)
        memo[id(value)] = moved
    twin = copy.deepcopy(module, memo)
    if device == "meta":
        # Tensors in plain attributes are not parameters; they keep their dtype.
        for part in twin.modules():
            for name, value in list(vars(part).items()):
                if isinstance(value, Tensor) and not name.startswith("_"):
                    vars(part)[name] = value.to("meta")
    for part in twin.modules():
        if isinstance(part, nn.RNNBase):
            part._init_flat_weights()
    return twin


def input_dtype(value: Any, precision: str, device: str) -> Any:
    """An argument as the converted module takes it: floats in its precision, a fresh copy."""
    if not isinstance(value, Tensor):
        if isinstance(value, (tuple, list)):
            return type(value)(input_dtype(item, precision, device) for item in value)
        return value
    low = precision in ("float16", "bfloat16")
    dtype = getattr(torch, precision) if low and value.is_floating_point() else value.dtype
    return value.detach().to(device=device, dtype=dtype, copy=True)
