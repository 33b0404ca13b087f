"""``dtype=int`` and ``x.to(int)`` in code whose ``int`` is a stand-in.

torch knows Python's own class only, by identity, and refuses a stand-in before any mode sees the
call. Where a model's source tells torch an ``int``, all of torch that is told a dtype gets Python's
class in the place of the stand-in, while the block runs.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import re
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exporter.graph.repairs.frame import replaced_names

_TOLD = re.compile(r"(dtype\s*=|\.(to|view|astype)\()[^)\n]*\bint\b")
_BUILT_IN = (types.BuiltinFunctionType, types.MethodDescriptorType)


@contextlib.contextmanager
def int_as_dtype(stand_in: type, files: Iterable[str]) -> Iterator[None]:
    """Let a stand-in be a dtype while the block runs, if one of the files has it as one."""
    changes = _takers() if any(map(_tells_int, files)) else ()
    with replaced_names(
        (owner, name, _told(owner, name, function, stand_in)) for owner, name, function in changes
    ):
        yield


def _tells_int(file: str) -> bool:
    try:
        return _is_told_in(file, Path(file).stat().st_mtime_ns)
    except (OSError, ValueError):
        return False


@functools.cache
def _is_told_in(file: str, changed: int) -> bool:
    return _TOLD.search(Path(file).read_text(encoding="utf-8")) is not None


@functools.cache
def _takers() -> tuple[tuple[Any, str, Any], ...]:
    """What of torch is written in C and is told a dtype: its owner, its name, and itself."""
    owners = (torch, Tensor, torch.special, torch.linalg)
    held = ((owner, name, getattr(owner, name)) for owner in owners for name in _names(owner))
    return tuple(
        (owner, name, function)
        for owner, name, function in held
        if isinstance(function, _BUILT_IN) and "dtype" in (function.__doc__ or "")
    )


def _names(owner: Any) -> list[str]:
    # A module is not asked for what it would import first.
    return dir(owner) if owner is Tensor else list(vars(owner))


def _told(owner: Any, name: str, function: Any, stand_in: type) -> Any:
    def own(value: Any) -> Any:
        return builtins.int if value is stand_in else value

    @functools.wraps(function)
    def told(*args: Any, **kwargs: Any) -> Any:
        # torch asks on its way ``func is torch.tensor``, and takes a size for a number if not.
        with replaced_names([(owner, name, function)]):
            return function(*map(own, args), **{key: own(value) for key, value in kwargs.items()})

    return told
