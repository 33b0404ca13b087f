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
from torch.utils._pytree import tree_map

_NARROW = (torch.float32, torch.float16, torch.bfloat16)


class _Widen(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        written = [a for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
        views = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if written or views:
            # A view or a write must stay on the memory that it was called on.
            return func(*args, **_dtypes(kwargs))
        args, kwargs = tree_map(_wide, (args, kwargs))
        return tree_map(_wide, func(*_dtypes(args), **_dtypes(kwargs)))


def _wide(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in _NARROW:
        return value.double()
    return value


def _dtypes(values: Any) -> Any:
    return tree_map(lambda v: torch.float64 if v in _NARROW else v, values, is_leaf=_is_dtype)


def _is_dtype(value: Any) -> bool:
    return isinstance(value, torch.dtype)


def call_in_double(module: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """Run ``module(*inputs)`` in float64 and return what it returns.

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
    fed = tuple(_wide(value.clone()) for value in inputs.values())
    with torch.no_grad(), _Widen():
        return torch.func.functional_call(module, wide, fed, tie_weights=False)
