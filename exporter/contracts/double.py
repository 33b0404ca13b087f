"""The same module in float64, for one call, without changing it.

Parameters and buffers are replaced by widened copies for the call
(``torch.func.functional_call``), and a dispatch mode widens what the code itself makes or casts
in float32. The matrices of large linear layers are widened in stripes while they are multiplied:
a second copy of them costs more time than the float64 products do. Discrete decisions may differ
from the float32 run where they hang on rounding.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_LARGE = 1 << 18
"""Elements from which a matrix stays as it is until it is multiplied."""
_STRIPE = 1 << 17
"""Elements that are widened at a time: they stay in the cache."""
_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)


class _Widen(TorchDispatchMode):
    def __init__(self, rounded: torch.dtype | None, kept: Collection[Tensor]) -> None:
        super().__init__()
        self._kept = {value.untyped_storage().data_ptr() for value in kept}
        self._finish = _widened if rounded is None else partial(_rounded, dtype=rounded)
        self._stays: dict[Any, bool] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs:
            kwargs = {key: _widened(value) for key, value in kwargs.items()}
        if func in _PRODUCTS and not kwargs and _is_large(args[-1]):
            added = args[0] if len(args) == 3 else None
            return self._finish(_product(_widened(args[-2]), args[-1], _widened(added)))
        stays = self._stays.get(func)
        if stays is None:
            stays = self._stays[func] = _writes_or_views(func)
        if stays:
            if func._schema.is_mutable and args and self._is_kept(args[0]):
                raise RuntimeError(f"{func} writes to a large weight")
            return func(*args, **kwargs)
        return self._finish(func(*[_widened(value) for value in args], **kwargs))

    def _is_kept(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.untyped_storage().data_ptr() in self._kept


def _is_large(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in _NARROW and value.numel() >= _LARGE


def _product(left: Tensor, right: Tensor, added: Tensor | None) -> Tensor:
    """``left @ right (+ added)`` for float64 ``left`` [n, k] and narrow ``right`` [k, m]."""
    stripe = max(1, _STRIPE // right.shape[0])
    found = torch.cat([left @ part.double() for part in right.split(stripe, dim=1)], dim=1)
    return found if added is None else found + added


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


def _rounded(value: Any, dtype: torch.dtype) -> Any:
    """As ``_widened``, with the values that ``dtype`` can hold."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype).double()
    if isinstance(value, (list, tuple)):
        return type(value)(_rounded(item, dtype) for item in value)
    return value


def large_matrices(module: nn.Module) -> dict[str, Tensor]:
    """Weights of plain linear layers that are not copied, by name."""
    return {
        f"{path}.weight" if path else "weight": part.weight
        for path, part in module.named_modules()
        if isinstance(part, nn.Linear)
        and type(part).forward is nn.Linear.forward
        and _is_large(part._parameters.get("weight"))
    }


def _held(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every place of a parameter or buffer once, also where a submodule has several names.

    A tensor that two modules share has a name in each. A module that is there twice has its
    tensors once: what ``functional_call`` puts back last would else be what it put in first.
    """
    for path, part in module.named_modules():
        for name, value in [*part._parameters.items(), *part._buffers.items()]:
            if value is not None:
                yield f"{path}.{name}" if path else name, value


def copied_in_double(module: nn.Module) -> int:
    """Numbers of a module that ``call_in_double`` holds a second time, widened."""
    kept = {id(value) for value in large_matrices(module).values()}
    held = [*module.parameters(), *module.buffers()]
    return sum(v.numel() for v in held if v.dtype in _NARROW and id(v) not in kept)


def call_in_double(
    module: nn.Module, inputs: Mapping[str, Tensor], *, rounded: torch.dtype | None = None
) -> Any:
    """Run ``module(*inputs)`` in float64 and return what it returns.

    Args:
        rounded: round the result of every op to this: what storing them costs, and no more.

    Integer and boolean inputs keep their dtype. Needs memory for a second, widened copy of the
    weights, but for those of large linear layers, while it runs.

    Raises:
        RuntimeError: the module writes to such a weight.
    """
    kept = large_matrices(module)
    wide = {
        name: value.detach().double()
        for name, value in _held(module)
        if value.dtype in _NARROW and name not in kept
    }
    fed = tuple(_widened(value.clone()) for value in inputs.values())
    with torch.no_grad(), _Widen(rounded, kept.values()):
        return torch.func.functional_call(module, wide, fed, tie_weights=False)
