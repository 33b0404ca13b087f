"""Record what every module of a model returns, in order, or every op inside one module.

A module that is called twice has two records, ``path`` and ``path#2``; results in tuples and
dictionaries get ``path[0]``, ``path[key]``. Values are copies: an op in place after the module
would otherwise rewrite what it had returned.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from exporter.contracts.result import Location
from exporter.interpret.control_flow import OpMode

_TORCH = str(Path(torch.__file__ or "").parent)
_OURS = tuple(str(Path(__file__).parents[2] / part) for part in ("contracts", "interpret"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One value that a module or an op returned."""

    key: str
    place: Location
    value: Tensor


class ModuleStack:
    """Tells which module's forward is running, by hooks that are removed on exit."""

    def __init__(self, module: nn.Module):
        self._module = module
        self._handles: list[Any] = []
        self.paths: list[str] = []

    def __enter__(self) -> ModuleStack:
        for path, part in self._module.named_modules():
            self._handles.append(part.register_forward_pre_hook(self._entering(path)))
            self._handles.append(
                part.register_forward_hook(self._leaving(path, part), always_call=True)
            )
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def current(self) -> str:
        """Path of the module whose forward is running; "" for the root."""
        return self.paths[-1] if self.paths else ""

    def _entering(self, path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any) -> None:
            self.paths.append(path)
            self.entered(path, args)

        return hook

    def _leaving(self, path: str, part: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, returned: Any) -> None:
            if self.paths:
                self.paths.pop()
            self.left(path, part, args, returned)

        return hook

    def entered(self, path: str, args: Any) -> None:
        """Called when a forward begins."""

    def left(self, path: str, part: nn.Module, args: Any, returned: Any) -> None:
        """Called when a forward ends, with ``None`` when it raised."""


class Recorder(ModuleStack):
    """Records what modules return.

    Args:
        module: the whole model.
        take: called with every record; without it records are kept in ``calls``.
        copies: False hands over values as they are, for a ``take`` that keeps none of them.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        take: Callable[[Call], None] | None = None,
        copies: bool = True,
    ):
        super().__init__(module)
        self.calls: list[Call] = []
        self._take = take or self.calls.append
        self._copies = copies
        self._counts: dict[str, int] = {}

    def left(self, path: str, part: nn.Module, args: Any, returned: Any) -> None:
        count = self._counts[path] = self._counts.get(path, 0) + 1
        key = path or "(root)"
        if count > 1:
            key += f"#{count}"
        place = Location(module=path, op=type(part).__name__, source=forward_source(part))
        # A mode that watches or widens the model's ops is not meant for those of who looks on.
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            for label, value in flat_tensors(returned, key):
                kept = value.detach().clone() if self._copies else value.detach()
                self._take(Call(key=label, place=place, value=kept))


class OpRecorder(OpMode):
    """Records every op that runs while ``scope`` (a module path) is running.

    Args:
        stack: an entered ``ModuleStack`` of the same model.
        scope: module path; "" for everything.
        take: called with every record; without it records are kept in ``calls``.
    """

    def __init__(
        self, stack: ModuleStack, scope: str = "", *, take: Callable[[Call], None] | None = None
    ):
        super().__init__()
        self.calls: list[Call] = []
        self._stack = stack
        self._scope = scope
        self._take = take or self.calls.append
        self._count = 0

    def op(self, func: Any, args: Any, kwargs: Any) -> Any:
        returned = func(*args, **kwargs)
        if self._scope and self._scope not in self._stack.paths:
            return returned
        self._count += 1
        place = Location(module=self._stack.current, op=str(func), source=calling_line())
        key = f"{self._count}:{func}"
        for label, value in flat_tensors(returned, key):
            self._take(Call(key=label, place=place, value=value.detach().clone()))
        return returned


def flat_tensors(value: Any, label: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors inside a returned value, with labels."""
    if isinstance(value, Tensor):
        yield label, value
    elif isinstance(value, nn.utils.rnn.PackedSequence):
        return  # its steps are sorted by time over all rows: no axis is the batch or the time
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat_tensors(item, f"{label}[{key}]")
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from flat_tensors(item, f"{label}[{index}]")


def raised_in(module: nn.Module, error: BaseException) -> Location:
    """Innermost part of a module, and line outside of torch, of an error of its forward."""
    names = {id(part): path for path, part in module.named_modules()}
    path, op, source = "", "", ""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        owner = frame.f_locals.get("self")
        if id(owner) in names:
            path, op = names[id(owner)], type(owner).__name__
        if is_user_code(frame.f_code.co_filename):
            source = f"{shortened(frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return Location(module=path, op=op, source=source)


def calling_line() -> str:
    """``file:line`` of the innermost frame that is neither torch's nor ours, "" without one."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if is_user_code(name):
            return f"{shortened(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def is_user_code(path: str) -> bool:
    """True for a source file that belongs to the model."""
    return not path.startswith((_TORCH, *_OURS, "<"))


def forward_source(part: nn.Module) -> str:
    """``file:line`` of a module's forward; "" where there is no Python source."""
    try:
        code = inspect.unwrap(type(part).forward).__code__
    except AttributeError:
        return ""
    return f"{shortened(code.co_filename)}:{code.co_firstlineno}"


def shortened(path: str) -> str:
    """A source path relative to its package's folder, or its last three parts."""
    for marker in ("site-packages/", "dist-packages/"):
        if marker in path:
            return path.split(marker, 1)[1]
    return "/".join(path.rsplit("/", 3)[1:])
