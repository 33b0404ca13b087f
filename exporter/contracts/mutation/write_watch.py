"""Watch some tensors while a module runs, and say which module, op and line writes to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from exporter.contracts.locate.recorder import (
    ModuleStack,
    calling_line,
    flat_tensors,
    forward_source,
)
from exporter.contracts.result import Location
from exporter.contracts.state import checksum
from exporter.interpret.control_flow import OpMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutated:
    """One tensor that a forward changed.

    Attributes:
        name: input, or state.
        kind: "input", "parameter", "buffer", "attribute".
        how: what gave it away.
        where: module, op and line.
    """

    name: str
    kind: str
    how: str
    where: Location


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """True when a name matches one of the declared patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One op that wrote to a watched tensor."""

    name: str
    place: Location


class WriteWatch(OpMode):
    """Collects writes to the memory of watched tensors, through whatever view.

    An op that changes the shape of a tensor in place (``unsqueeze_``, ``transpose_``, ``t_``,
    ``resize_``) writes no value: it counts where it is called on a watched tensor itself, whose
    owner then finds another shape, and not on a view of it. The version counter, which views
    share, moves in both cases; ``reshaped`` says how often it did so for a view.

    Args:
        module: the model that will run.
        watched: name -> tensor; all stay alive, so their memory is not given to another.
    """

    def __init__(self, module: nn.Module, watched: Mapping[str, Tensor]):
        super().__init__()
        self.writes: list[Write] = []
        self.reshaped: Counter[str] = Counter()
        self._stack = ModuleStack(module)
        self._watched = dict(watched)
        self._names: dict[int, list[str]] = {}
        for name, tensor in watched.items():
            if not tensor.is_meta and tensor.numel():
                pointer = tensor.untyped_storage().data_ptr()
                self._names.setdefault(pointer, []).append(name)

    def __enter__(self) -> WriteWatch:
        self._stack.__enter__()
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        self._stack.__exit__(*args)

    def op(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func._schema.is_mutable:
            for position, argument in enumerate(func._schema.arguments):
                if argument.alias_info is None or not argument.alias_info.is_write:
                    continue
                given = args[position] if position < len(args) else kwargs.get(argument.name)
                for _, tensor in flat_tensors(given, ""):
                    self._note(func, tensor)
        return func(*args, **kwargs)

    def _note(self, func: Any, tensor: Tensor) -> None:
        only_shape = torch.Tag.inplace_view in func.tags
        for name in self._names.get(tensor.untyped_storage().data_ptr(), ()):
            if only_shape and tensor is not self._watched[name]:
                self.reshaped[name] += 1
                continue
            place = Location(module=self._stack.current, op=str(func), source=calling_line())
            self.writes.append(Write(name=name, place=place))


class FirstChange(ModuleStack):
    """The first module after whose forward a tensor's content is another."""

    def __init__(self, module: nn.Module, watched: Mapping[str, Tensor]):
        super().__init__(module)
        self._watched = dict(watched)
        self._sums = {name: checksum(tensor) for name, tensor in watched.items()}
        self.places: dict[str, Location] = {}

    def left(self, path: str, part: nn.Module, args: Any, returned: Any) -> None:
        for name, tensor in self._watched.items():
            if name not in self.places and checksum(tensor) != self._sums[name]:
                source = forward_source(part)
                self.places[name] = Location(module=path, op=type(part).__name__, source=source)
