"""The same module in float64, for one call, without changing it.

Parameters and buffers are replaced by widened copies for the call
(``torch.func.functional_call``), and a dispatch mode widens what the code itself makes or casts
in float32. Discrete decisions may differ from the float32 run where they hang on rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_NARROW = (torch.float32, torch.float16, torch.bfloat16)


class _Widen(TorchDispatchMode):
    def __init__(self, rounded: bool) -> None:
        super().__init__()
        self._finish = _rounded if rounded else _widened
        self._stays: dict[Any, bool] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs:
            kwargs = {key: _widened(value) for key, value in kwargs.items()}
        stays = self._stays.get(func)
        if stays is None:
            stays = self._stays[func] = _writes_or_views(func)
        if stays:
            return func(*args, **kwargs)
        return self._finish(func(*[_widened(value) for value in args], **kwargs))


def _writes_or_views(func: Any) -> bool:
    """A view or a write must stay on the memory that it was called on."""
    written = any(a.alias_info and a.alias_info.is_write for a in func._schema.arguments)
    views = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
    return written or views


def _widened(value: Any) -> Any:
    """Narrow tensors and dtypes to float64, in lists and tuples too."""
    if isinstance(value, Tensor):
        return value.double() if value.dtype in _NARROW else value
    if isinstance(value, (list, tuple)):
        return type(value)(_widened(item) for item in value)
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


def _rounded(value: Any) -> Any:
    """As ``_widened``, with the values that float32 can hold."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float().double()
    if isinstance(value, (list, tuple)):
        return type(value)(_rounded(item) for item in value)
    return value


def call_in_double(
    module: nn.Module, inputs: Mapping[str, Tensor], *, rounded: bool = False
) -> Any:
    """Run ``module(*inputs)`` in float64 and return what it returns.

    Args:
        rounded: round the result of every op to float32: what storing them costs, and no more.

    Integer and boolean inputs keep their dtype. Needs memory for a second, widened copy of the
    weights while it runs.
    """
    wide = {
        name: value.detach().double()
        for name, value in [
            *module.named_parameters(remove_duplicate=False),
            *module.named_buffers(remove_duplicate=False),
        ]
        if value.dtype in _NARROW
    }
    fed = tuple(_widened(value.clone()) for value in inputs.values())
    with torch.no_grad(), _Widen(rounded):
        return torch.func.functional_call(module, wide, fed, tie_weights=False)
