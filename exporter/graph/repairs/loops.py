"""Loops over an axis: as many turns as an input has frames, in place of the example's.

A trace runs a loop and writes each turn down, which freezes how many there are. Here the functions
of a model that have loops are compiled once more from their own source, with each loop as a turn
that is called (``loop_source``), and a loop whose length is a size of the graph becomes one op
(``loop_turns``). The functions are afterwards what they were.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from exporter.graph.repairs.frame import Log, Repair, replaced_names
from exporter.graph.repairs.loop_source import RUNTIME, rewritten
from exporter.graph.repairs.loop_turns import Joining, Turns

_DEEPEST = 4
"""Decorators of one function that are looked behind."""
_LEFT = frozenset({"torch", "numpy", "exporter", "builtins", "__main__"})


def _modules(module: nn.Module) -> list[types.ModuleType]:
    """Modules that hold a model's classes, and those of the functions that they name."""
    kinds = {kind for part in module.modules() for kind in type(part).__mro__}
    names = {kind.__module__ for kind in kinds}
    tops = {name.partition(".")[0] for name in names} - _LEFT
    called = {
        value.__module__
        for name in names
        for value in vars(sys.modules.get(name, object)).values()
        if inspect.isfunction(value)
    }
    return [
        sys.modules[name]
        for name in sorted(filter(None, names | called))
        if name.partition(".")[0] in tops and name in sys.modules
    ]


@functools.cache
def _loops_in(file: str, changed: int) -> dict[str, ast.FunctionDef]:
    """Functions of a file that have a loop of their own, by qualified name."""
    try:
        tree = ast.parse(Path(file).read_text())
    except (OSError, SyntaxError, ValueError):
        return {}
    found = {}
    for node in tree.body:
        parts = [("", node)]
        if isinstance(node, ast.ClassDef):
            parts = [(f"{node.name}.", part) for part in node.body]
        for prefix, part in parts:
            has_loops = any(isinstance(each, ast.For) for each in ast.walk(part))
            if isinstance(part, ast.FunctionDef) and has_loops:
                found[f"{prefix}{part.name}"] = part
    return found


def _functions(module: nn.Module) -> Iterator[tuple[types.FunctionType, ast.FunctionDef]]:
    """Function and source of all functions of a model that have loops."""
    for held in _modules(module):
        file = getattr(held, "__file__", None)
        if not file or not file.endswith(".py"):
            continue
        for name, source in _loops_in(file, Path(file).stat().st_mtime_ns).items():
            owner, _, own = name.rpartition(".")
            holder = getattr(held, owner, None) if owner else held
            value = vars(holder).get(own) if holder is not None else None
            function = _undecorated(value, source)
            if function is not None:
                yield function, source


def _undecorated(value: Any, source: ast.FunctionDef, depth: int = 0) -> types.FunctionType | None:
    """The function of a source itself, behind what its decorators made of it."""
    if isinstance(value, types.FunctionType):
        begins = (source.lineno, *(each.lineno for each in source.decorator_list))
        code = value.__code__
        if code.co_firstlineno in begins and code.co_name == source.name:
            return value
    behind = [getattr(value, name, None) for name in ("__func__", "__wrapped__")]
    for each in behind:
        if each is not None and depth < _DEEPEST:
            found = _undecorated(each, source, depth + 1)
            if found is not None:
                return found
    return None


def _compiled(function: types.FunctionType, source: ast.FunctionDef) -> types.CodeType | None:
    """The function's code with its loops as calls; None where it has none that could be."""
    made = rewritten(copy.deepcopy(source))
    if made is None:
        return None
    # Defaults and annotations are the function's own.
    made.decorator_list, made.returns = [], None
    for argument in ast.walk(made.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    made.args.defaults = [ast.Constant(None) for _ in made.args.defaults]
    made.args.kw_defaults = [each and ast.Constant(None) for each in made.args.kw_defaults]
    free = function.__code__.co_freevars
    outer: Any = ast.parse(f"def outer({', '.join(free)}):\n    return None").body[0]
    # Inside of a class of the same name: Python writes names like self.__mix with it.
    inside, names = [made], [made.name]
    owner = function.__qualname__.rpartition(".")[0].rpartition(".")[2]
    if owner.isidentifier():
        inside = ast.parse(f"class {owner}:\n    pass").body
        inside[0].body, names = [made], [owner, made.name]  # type: ignore[attr-defined]
    # A function that calls itself means what its module calls by that name.
    outer.body = [ast.Global([made.name]), *inside]
    tree = ast.fix_missing_locations(ast.Module([outer], []))
    code: Any = compile(tree, function.__code__.co_filename, "exec")
    for name in ("outer", *names):
        code = next(
            each
            for each in code.co_consts
            if isinstance(each, types.CodeType) and each.co_name == name
        )
    return code if code.co_freevars == free else None


@contextlib.contextmanager
def _apply(module: nn.Module, log: Log) -> Iterator[None]:
    made = [(function, _compiled(function, source)) for function, source in _functions(module)]
    codes = [(function, function.__code__, code) for function, code in made if code is not None]
    holders = {function.__module__ for function, _, _ in codes}
    runtime = Turns(log)
    with replaced_names((sys.modules[name], RUNTIME, runtime) for name in holders), Joining():
        try:
            for function, _, code in codes:
                function.__code__ = code
            yield
        finally:
            for function, own, _ in codes:
                function.__code__ = own


REPAIR = Repair(
    name="loops",
    replaces="all turns are one op, as many as the input has (Scan in the file)",
    strategy="loops over an axis as one op",
    matches=lambda module: any(True for _ in _functions(module)),
    apply=_apply,
)
