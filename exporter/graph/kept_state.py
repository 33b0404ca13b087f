"""What a module's plain attributes hold, to see what a call leaves in them and to put it back.

Buffers that a forward writes to are found by ``torch.export``. What it assigns to an attribute
(``self.last = x``, ``self.calls += 1``) is not: it is traced once and is gone in the file. A trace
also leaves tensors without values there, and a float64 run leaves float64 ones.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_DEEPEST = 4
_NEVER = (Tensor, type, types.FunctionType, types.MethodType, types.ModuleType, torch.dtype)
_OWN = frozenset({"_parameters", "_buffers", "_modules"})


class KeptState:
    """The attributes of all parts of a module, and what lies in their lists, dicts and objects.

    Values themselves are not copied: what is assigned anew is put back, what is written into the
    memory of a tensor is not.
    """

    def __init__(self, module: nn.Module) -> None:
        self._held: list[tuple[str, Any, Any]] = []
        seen: set[int] = set()
        for path, part in module.named_modules():
            self._note(path or type(part).__name__, vars(part), seen, 0)

    def _note(self, name: str, value: Any, seen: set[int], depth: int) -> None:
        if id(value) in seen or depth > _DEEPEST:
            return
        seen.add(id(value))
        if isinstance(value, (dict, list, set)):
            # Containers of a class of their own may do more than hold: only their copy is taken.
            self._held.append((name, value, value.copy()))
        for label, inner in _inside(value):
            self._note(f"{name}.{label}", inner, seen, depth + 1)

    def changed(self) -> list[str]:
        """Names of attributes that hold another object now; hooks and the like do not count."""
        changed_keys = []
        for name, container, before in self._held:
            if isinstance(container, dict):
                keys = dict.fromkeys([*before, *container])
                changed_keys += [
                    f"{name}.{key}"
                    for key in keys
                    if not _same(before.get(key, _GONE), container.get(key, _GONE))
                ]
            elif len(container) != len(before) or any(
                not _same(a, b) for a, b in zip(container, before, strict=True)
            ):
                changed_keys.append(name)
        return changed_keys

    def restore(self) -> None:
        """Put every attribute back that was assigned, added or taken away."""
        for _, container, before in self._held:
            if isinstance(container, list):
                container[:] = before
            else:
                container.clear()
                container.update(before)


_GONE = object()


def _same(left: Any, right: Any) -> bool:
    plain = isinstance(left, (bool, int, float, str)) and type(left) is type(right)
    return left is right or (plain and left == right)


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """What lies inside of a container or an object that may keep something."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, (list, tuple, set)):
        pairs = list(enumerate(value))
    elif hasattr(value, "__dict__") and not isinstance(value, (nn.Module, *_NEVER)):
        pairs = [("", vars(value))] if isinstance(vars(value), dict) else []
    else:
        return
    for label, inner in pairs:
        if not isinstance(inner, (nn.Module, *_NEVER, str, int, float)):
            yield str(label), inner
