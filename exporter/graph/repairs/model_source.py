"""Functions of a model, compiled once more from their own source while it is traced.

What is rewritten is a copy of the source; the functions are afterwards what they were.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from exporter.graph.repairs.frame import replaced_names
from exporter.graph.repairs.module_run import ModuleRun

Rewriter = Callable[[ast.FunctionDef], ast.FunctionDef | None]
"""Changes the source of a function in place, and returns it; None: it has nothing to change."""

_DEEPEST = 4
"""Decorators of one function that are looked behind."""
_LEFT = frozenset({"torch", "numpy", "exporter", "builtins", "__main__"})


def _modules(run: ModuleRun) -> list[types.ModuleType]:
    """Modules that hold a model's classes, and those of the functions that they name; of these
    the ones of which a function runs."""
    kinds = {kind for part in run.module.modules() for kind in type(part).__mro__}
    names = {kind.__module__ for kind in kinds}
    tops = {name.partition(".")[0] for name in names} - _LEFT
    called = {
        value.__module__
        for name in names
        for value in vars(sys.modules.get(name, object)).values()
        if inspect.isfunction(value)
    }
    modules = [
        sys.modules[name]
        for name in sorted(filter(None, names | called))
        if name.partition(".")[0] in tops and name in sys.modules
    ]
    files = {code.co_filename for code in run.functions}
    return [each for each in modules if getattr(each, "__file__", None) in files]


@functools.cache
def _functions_in(file: str, changed: int) -> dict[str, ast.FunctionDef]:
    """All functions of a file, by qualified name."""
    try:
        tree = ast.parse(Path(file).read_text())
    except (OSError, SyntaxError, ValueError):
        return {}
    functions = {}
    for node in tree.body:
        parts = [("", node)]
        if isinstance(node, ast.ClassDef):
            parts = [(f"{node.name}.", part) for part in node.body]
        for prefix, part in parts:
            if isinstance(part, ast.FunctionDef):
                functions[f"{prefix}{part.name}"] = part
    return functions


def functions_of(
    run: ModuleRun, wanted: Callable[[ast.FunctionDef], bool]
) -> Iterator[tuple[types.FunctionType, ast.FunctionDef]]:
    """Function and source of those functions which a model runs and whose source is wanted."""
    for part in _modules(run):
        file = str(part.__file__)
        if not file.endswith(".py"):
            continue
        for name, source in _functions_in(file, Path(file).stat().st_mtime_ns).items():
            owner, _, own = name.rpartition(".")
            holder = getattr(part, owner, None) if owner else part
            value = vars(holder).get(own) if holder is not None else None
            function = _undecorated(value, source)
            if function is not None and run.calls(function) and wanted(source):
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
            plain = _undecorated(each, source, depth + 1)
            if plain is not None:
                return plain
    return None


def _compiled(
    function: types.FunctionType, source: ast.FunctionDef, rewritten: Rewriter
) -> types.CodeType | None:
    """The function's code, rewritten; None where there is nothing to rewrite."""
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
def recompiled(
    run: ModuleRun,
    wanted: Callable[[ast.FunctionDef], bool],
    rewritten: Rewriter,
    **names: object,
) -> Iterator[None]:
    """Run a model's functions rewritten while the block runs.

    Args:
        wanted: which functions are looked at.
        rewritten: changes the source of one.
        names: global names that what is rewritten finds.
    """
    made = [
        (each, _compiled(each, source, rewritten)) for each, source in functions_of(run, wanted)
    ]
    codes = [(function, function.__code__, code) for function, code in made if code is not None]
    holders = {function.__module__ for function, _, _ in codes}
    changes = ((sys.modules[each], *attribute) for each in holders for attribute in names.items())
    with replaced_names(changes):
        try:
            for function, _, code in codes:
                function.__code__ = code
            yield
        finally:
            for function, own, _ in codes:
                function.__code__ = own
