"""A digest of what a module computes with besides its code and its weights.

The same classes with the same weights are another model when an epsilon, a stride, a flag or a
table that is no parameter differs. All of that hangs on the module as plain attributes.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import types
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_DEEPEST = 8
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_ELSEWHERE = frozenset({"_parameters", "_modules"})
"""Parameters are in the digest of the weights, submodules come by themselves."""
_TORCH_ONLY = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size)


def module_state(module: nn.Module) -> str:
    """sha256 over the classes and attributes of all parts of a module.

    Two modules with equal digests, code and weights trace to the same graph. Equal digests do not
    depend on the process: no address and no order of a set enters.
    """
    digest = hashlib.sha256()
    for path, part in module.named_modules(remove_duplicate=False):
        digest.update(f"{path}={_name(type(part))}\n".encode())
        for name, value in sorted(vars(part).items()):
            if name not in _ELSEWHERE:
                digest.update(f" {name}:{'|'.join(_words(value, (id(part),)))}\n".encode())
    return digest.hexdigest()


def _words(value: Any, inside: tuple[int, ...]) -> Iterator[str]:
    """A value as texts; ``inside`` are the objects around it."""
    if isinstance(value, (*_PLAIN, *_TORCH_ONLY)):
        yield f"{type(value).__name__} {value!r}"
    elif isinstance(value, enum.Enum):
        yield f"{_name(type(value))}.{value.name}"
    elif isinstance(value, Tensor | np.ndarray | np.generic):
        yield _array(value)
    elif isinstance(value, PurePath):
        yield f"path {value}"
    elif id(value) in inside or len(inside) > _DEEPEST:
        yield f"... {_name(type(value))}"
    else:
        yield from _parts(value, (*inside, id(value)))


def _parts(value: Any, inside: tuple[int, ...]) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield f"{_name(type(value))} {{"
        for key, item in value.items():
            yield from _words(key, inside)
            yield from _words(item, inside)
        yield "}"
    elif isinstance(value, list | tuple):
        yield f"{_name(type(value))} ["
        for item in value:
            yield from _words(item, inside)
        yield "]"
    elif isinstance(value, set | frozenset):
        yield "set " + " ".join(sorted("|".join(_words(item, inside)) for item in value))
    elif isinstance(value, functools.partial):
        for item in (value.func, value.args, value.keywords):
            yield from _words(item, inside)
    elif isinstance(value, types.MethodType):
        yield f"method {value.__func__.__qualname__}"
    elif isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        yield _function(value, inside)
    else:
        yield f"{_name(type(value))} ("
        for name, item in _attributes(value):
            yield name
            yield from _words(item, inside)
        yield ")"


def _function(value: Any, inside: tuple[int, ...]) -> str:
    """A name says which function; what it closes over, and its defaults, are values of its own."""
    cells = [
        cell.cell_contents for cell in getattr(value, "__closure__", None) or () if _full(cell)
    ]
    parts = [*cells, *(getattr(value, "__defaults__", None) or ())]
    return f"{value.__module__}.{value.__qualname__} {[list(_words(v, inside)) for v in parts]}"


def _full(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _attributes(value: Any) -> list[tuple[str, Any]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = list(getattr(value, "__dict__", ()))
    return [(name, getattr(value, name)) for name in sorted(names) if hasattr(value, name)]


def _array(value: Tensor | np.ndarray | np.generic) -> str:
    if isinstance(value, Tensor):
        if value.device.type == "meta":
            return f"meta {value.dtype} {tuple(value.shape)}"
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(data.data).hexdigest()}"
    array = np.ascontiguousarray(value)
    return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
