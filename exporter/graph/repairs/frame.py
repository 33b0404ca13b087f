"""The frame of every repair: what it replaces while a model runs, and what of that was met.

A repair puts something else in the place of what a trace cannot follow: a function of torch, a
function of the model's own package, an attribute. It does so while a block runs, and everything is
afterwards what it was; no file is changed. Each place that it was met at is written down with how
often, and the model is run with it and without (``proof``) before anything rests on it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch._guards import TracingContext
from torch.export import ExportedProgram
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from exporter.core.errors import StageError
from exporter.graph.repairs.module_run import ModuleRun
from exporter.models.user_code import is_users

_DEEPEST = 60


class NotRepairedError(StageError):
    """A known pattern, used in a way that its repair does not cover."""

    def __init__(self, what: str, remedy: str):
        line = _users_line() or ""
        place = f" at {line}" if line else ""
        super().__init__("capture", f"{what}{place}", remedy=remedy, source=line)


class Log:
    """What one repair replaced: ``len() at model.py:12``, and how often the model came there."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def at(self, what: str) -> None:
        """Remember that ``what`` was replaced in the user's code that called it."""
        where = _users_line()
        if where is None:
            return
        # torch runs a model once to learn its shapes and once more to write down what it does.
        written = get_proxy_mode() is not None or not is_tracing()
        self.add(what, where, written)

    def add(self, what: str, where: str, times: int = 1) -> None:
        """Remember that ``what`` was replaced at a line."""
        place = f"{what} at {where}" if where else what
        self.places[place] = self.places.get(place, 0) + times

    def __bool__(self) -> bool:
        return bool(self.places)

    def words(self) -> str:
        """The places, for a report."""
        return ", ".join(
            f"{place} ({count} times)" if count > 1 else place
            for place, count in self.places.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One entry of the catalogue.

    Attributes:
        name: what the YAML calls it.
        replaces: what is found and what stands in its place, for a report: "... computed as ...".
        strategy: the same in a few words.
        matches: True for a module in which it may have a part; a quick look.
        apply: replaces things of a module while a block runs, and writes down what it met.
        needed: True for a captured program that has what nobody writes in ONNX, and the repair
            replaces.
        rewrite: what it makes of the captured program, and writes down; the last argument is True
            where a user asked for it by name.
        frees: its pattern is captured without it, for some of the sizes that the module takes.
        running: stands, while the module runs for the proof, for what ``rewrite`` does.
    """

    name: str
    replaces: str
    strategy: str
    matches: Callable[[ModuleRun], bool]
    apply: Callable[[ModuleRun, Log], AbstractContextManager[object]]
    needed: Callable[[ExportedProgram], bool] = lambda program: False
    rewrite: Callable[[ExportedProgram, Log, bool], ExportedProgram] | None = None
    frees: bool = False
    running: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext


def calls(*names: str) -> Callable[[ExportedProgram], bool]:
    """For ``needed``: a program calls one of these ops, ``namespace::name``."""

    def called(program: ExportedProgram) -> bool:
        ops = (node.target for node in program.graph.nodes if node.op == "call_function")
        return any(getattr(op, "_schema", None) and op._schema.name in names for op in ops)  # type: ignore[union-attr]

    return called


@contextlib.contextmanager
def repaired(run: ModuleRun, repairs: Iterable[Repair]) -> Iterator[dict[Repair, Log]]:
    """Apply repairs to a module while the block runs; their logs fill meanwhile."""
    logs: dict[Repair, Log] = {}
    with contextlib.ExitStack() as stack:
        for repair in repairs:
            if repair.matches(run):
                logs[repair] = Log()
                stack.enter_context(repair.apply(run, logs[repair]))
        yield logs


@contextlib.contextmanager
def replaced_names(changes: Iterable[tuple[object, str, object]]) -> Iterator[None]:
    """Set attributes of modules, classes or objects while the block runs."""
    replaced: list[tuple[object, str, object, bool]] = []
    try:
        for owner, name, value in changes:
            own = vars(owner)
            replaced.append((owner, name, own.get(name), name in own))
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value, was_there in reversed(replaced):
            if was_there:
                setattr(owner, name, value)
            else:
                delattr(owner, name)


def holders_of(function: object) -> list[tuple[object, str]]:
    """Modules whose global names include a function, and under which name.

    ``from torch.nn.utils.rnn import pack_padded_sequence`` makes a name of its own. Read from their
    dictionaries: asking a lazy module for a name imports what it stands for.
    """
    holders: list[tuple[object, str]] = []
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict):
            holders += [(module, name) for name, value in list(names.items()) if value is function]
    return holders


def _users_line() -> str | None:
    frame = sys._getframe(2)
    for _ in range(_DEEPEST):
        file = frame.f_code.co_filename
        if is_users(file):
            return f"{'/'.join(file.split('/')[-2:])}:{frame.f_lineno}"
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def is_tracing() -> bool:
    """True while torch.export runs a model."""
    return torch.compiler.is_exporting() or TracingContext.try_get() is not None
