"""A submodule and the arguments that it gets in a run of the whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from exporter.contracts.target import Target
from exporter.core.tensors import Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A module and what it is called with.

    Attributes:
        whole: True when it is the target's own module.
        restore: puts the target's state back after a call.
    """

    module: nn.Module
    args: tuple[Any, ...]
    path: str
    whole: bool
    restore: Callable[[], None]


def scoped(
    target: Target,
    inputs: Arrays,
    path: str,
    *,
    around: Callable[[nn.Module], AbstractContextManager[object]] = contextlib.nullcontext,
) -> Part | str:
    """The submodule at ``path`` with the arguments of its first call; a string says why not.

    Args:
        around: entered with the submodule while the whole runs, which it does only for a ``path``.
    """
    restore = target.snapshot.restore
    if not path:
        args = tuple(target.tensors(inputs).values())
        return Part(module=target.module, args=args, path="", whole=True, restore=restore)
    try:
        module = target.module.get_submodule(path)
    except AttributeError:
        return f"there is no submodule '{path}'"
    seen: list[tuple[Any, ...]] = []

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        values = (*args, *kwargs.values())
        seen.append(tuple(v.detach().clone() if isinstance(v, Tensor) else v for v in values))

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with around(module):
            target.remember(inputs, target.call(inputs))
    finally:
        handle.remove()
    if not seen:
        return f"the submodule '{path}' is not called"
    return Part(module=module, args=seen[0], path=path, whole=False, restore=restore)
