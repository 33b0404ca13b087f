"""What a capture rests on: conditions on the sizes of its inputs that were true of the example.

While ``torch.export`` runs a module it answers each question about a size (``if x.shape[1] % 4``,
``int(1.3 * x.shape[1])``) as the example answers it, and goes on that way. Most answers are kept
in the captured program as assertions, which the ONNX file does not have: at a size for which the
answer is another one, the file computes what the module would not. So they are kept with the
program, as plain data, and every case is held against them.

    who asked       what a broken guard means
    the model       its code takes another way at this size: the capture does not hold
    torch           a kernel may take another way that gives the same, or refuse the size:
                    running both tells
"""

from __future__ import annotations

import contextlib
import math
import operator
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv

Tree = int | float | str | tuple[Any, ...]
"""A number, or an operator's name with its operands; ``("size", input, axis)`` is a size."""

_MACHINERY = ("torch/__init__.py", "torch/fx/", "torch/utils/", "torch/_guards.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """One condition.

    Attributes:
        condition: see ``Tree``; true of the sizes for which the capture holds.
        source: ``file:line`` of the model's code that led to it; "" when unknown.
        by_model: the model's own code asked, not torch on its way through an op.
    """

    condition: Tree
    source: str
    by_model: bool

    def holds(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """Whether the condition is true of inputs of these shapes.

        Raises:
            KeyError: an input that it speaks of is missing.
        """
        try:
            return bool(_value(self.condition, shapes))
        except (ZeroDivisionError, ValueError, OverflowError):
            return False  # what cannot be computed was not true of the example

    def words(self, axes: Mapping[str, Sequence[int | str]]) -> str:
        """The condition for people, with names of axes: ``frames a multiple of 4``."""
        text = _special(self.condition, axes) or _text(self.condition, axes)
        return f"{text} (asked at {self.source})" if self.source else text

    @property
    def leaves_out_one_size(self) -> bool:
        """True of ``size != 1`` and its like: one size of one axis takes another way.

        A run at that size has tried all of it.
        """
        tree = self.condition
        if not isinstance(tree, tuple) or len(tree) != 3 or _HEADS.get(tree[0]) is not operator.ne:
            return False
        sides = (tree[1], tree[2]), (tree[2], tree[1])
        return any(
            isinstance(size, tuple) and size[0] == "size" and isinstance(number, int)
            for size, number in sides
        )

    @property
    def fixes_a_number(self) -> bool:
        """True where what the model computed of sizes became the number that it was.

        ``frames // 2 == 6``: of the example, ``int(np.ceil(frames / 2))`` was 6. A number with
        digits nobody asks to be equal: torch took it, wherever the model handed it on.
        """
        tree = self.condition
        if not isinstance(tree, tuple) or len(tree) != 3:
            return False
        head, left, right = tree
        if _HEADS.get(head) is not operator.eq or not isinstance(left, tuple):
            return False
        # Of a remainder it is a condition that sizes have to meet, and no number that was taken.
        whole = self.by_model and isinstance(right, int) and left[0] not in _REMAINDERS
        return whole or isinstance(right, float)

    def inputs(self) -> frozenset[tuple[str, int]]:
        """The sizes that it speaks of, as input and axis."""
        return frozenset(_sizes(self.condition))

    def numbers(self) -> frozenset[int]:
        """Whole numbers in it: sizes near them are worth trying."""
        return frozenset(_numbers(self.condition))


@contextlib.contextmanager
def watched_guards(*, assumed: bool = False) -> Iterator[list[tuple[Any, list[Any]]]]:
    """Collect what ``torch.export`` rests on while the block runs: expressions and stacks.

    torch throws the stacks away when it is done, so they are read just before; its own function
    is put back afterwards.

    Args:
        assumed: also take the answers that torch did not have to prove, because the axes were left
            to it (``Dim.DYNAMIC``); else they are true of every size of the axes.
    """
    guards: list[tuple[Any, list[Any]]] = []
    seen: set[tuple[int, str]] = set()
    original, logged = ShapeEnv.cleanup, ShapeEnv._log_guard

    def noted(self: ShapeEnv, prefix: str, guard: Any, *args: Any, **kwargs: Any) -> None:
        key = (id(self), str(guard))
        if prefix == "eval" and key not in seen:
            seen.add(key)
            guards.append((guard, list(traceback.extract_stack()[:-1])))
        logged(self, prefix, guard, *args, **kwargs)

    def watched(self: ShapeEnv) -> None:
        for asserts in self.deferred_runtime_asserts.values():
            for nodes in asserts:
                key = (id(self), str(nodes.expr))
                if key not in seen:
                    seen.add(key)
                    guards.append((nodes.expr, list(nodes.stack.summary())))
        original(self)

    ShapeEnv.cleanup = watched
    if assumed:
        # torch's own signature names arguments that are only handed on here.
        setattr(ShapeEnv, "_log_guard", noted)  # noqa: B010
    try:
        yield guards
    finally:
        ShapeEnv.cleanup, ShapeEnv._log_guard = original, logged


def guards_of(
    exported: torch.export.ExportedProgram,
    watched: Sequence[tuple[Any, list[Any]]],
    inputs: Sequence[str],
) -> tuple[Guard, ...]:
    """The guards of a capture that speak of the sizes of its inputs alone.

    Args:
        watched: what ``watched_guards`` collected. inputs: their names, in order.
    """
    names: dict[str, Tree] = {}
    labels = dict(zip(exported.graph_signature.user_inputs, inputs, strict=True))
    for node in exported.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in labels and isinstance(value, torch.Tensor):
            for axis, size in enumerate(value.shape):
                if isinstance(size, torch.SymInt):
                    _learn(names, size.node, ("size", labels[node.name], axis))
    guards: dict[Tree, Guard] = {}
    for expression, frames in watched:
        tree = _tree(expression, names)
        if tree is None or not any(True for _ in _sizes(tree)):
            continue
        source, by_model = _asked_by(frames)
        guard = guards.get(tree)
        if guard is None or (by_model and not guard.by_model):
            guards[tree] = Guard(condition=tree, source=source, by_model=by_model)
    return tuple(guards.values())


def _asked_by(frames: Sequence[Any]) -> tuple[str, bool]:
    """The line of the model's code that led to a question, and whether it asked it itself."""
    outside = [f for f in frames if not any(part in f.filename for part in _MACHINERY)]
    if not outside:
        return "", False
    models = [f for f in outside if "/torch/" not in f.filename and "/exporter/" not in f.filename]
    source = ""
    if models:
        path = models[-1].filename
        for marker in ("site-packages/", "dist-packages/"):
            path = path.rpartition(marker)[2]
        short = path if "/" not in path or not path.startswith("/") else path.rpartition("/")[2]
        source = f"{short}:{models[-1].lineno}"
    return source, "/torch/" not in outside[-1].filename


def _learn(names: dict[str, Tree], size: Any, tree: Tree) -> None:
    """Symbols that stand for a size of an input: its own, and what torch has put in its place."""
    names.setdefault(str(size._expr), tree)
    now = size.expr
    names.setdefault(str(now), tree)
    if getattr(now, "is_Mul", False) and len(now.args) == 2 and now.args[0].is_Integer:
        names.setdefault(str(now.args[1]), ("FloorDiv", tree, int(now.args[0])))


def _tree(expression: Any, names: Mapping[str, Tree]) -> Tree | None:
    """A sympy expression as plain data; None when it speaks of something but sizes."""
    if getattr(expression, "is_Symbol", False):
        return names.get(str(expression))
    if getattr(expression, "is_Integer", False):
        return int(expression)
    if getattr(expression, "is_Rational", False):
        return ("/", int(expression.p), int(expression.q))
    if getattr(expression, "is_Float", False):
        return float(expression)
    head = type(expression).__name__
    if head not in _HEADS or not getattr(expression, "args", ()):
        return None
    parts = [_tree(part, names) for part in expression.args]
    return None if any(part is None for part in parts) else (head, *parts)


def _value(tree: Tree, shapes: Mapping[str, Sequence[int]]) -> Any:
    if not isinstance(tree, tuple):
        return tree
    if tree[0] == "size":
        return int(shapes[tree[1]][tree[2]])
    return _HEADS[tree[0]](*[_value(part, shapes) for part in tree[1:]])


def check_tree(tree: Any) -> None:
    """Check what was read of a condition.

    Raises:
        ValueError: it is no condition on sizes.
    """
    if isinstance(tree, int | float):
        return
    head = next(iter(tree), None) if isinstance(tree, tuple) else None
    if not isinstance(head, str):
        raise ValueError("a guard holds what is neither a number nor an operator")
    if head == "size":
        named = len(tree) == 3 and isinstance(tree[1], str) and isinstance(tree[2], int)
        if not named or tree[2] < 0:
            raise ValueError("a guard names a size that is none")
    elif head not in _HEADS or len(tree) < 2:
        raise ValueError(f"a guard calls '{head:.40}'")
    else:
        for part in tree[1:]:
            check_tree(part)


def _sizes(tree: Tree) -> Iterator[tuple[str, int]]:
    if isinstance(tree, tuple) and tree[0] == "size":
        yield tree[1], tree[2]
    elif isinstance(tree, tuple):
        for part in tree[1:]:
            yield from _sizes(part)


def _numbers(tree: Tree) -> Iterator[int]:
    if isinstance(tree, int) and not isinstance(tree, bool):
        yield tree
    elif isinstance(tree, tuple) and tree[0] != "size":
        for part in tree[1:]:
            yield from _numbers(part)


def _sum(*parts: Any) -> Any:
    return sum(parts)


def _whole(value: Any) -> int:
    return math.trunc(value)


_REMAINDERS = frozenset({"Mod", "PythonMod"})
_HEADS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("Equality", "Eq"), operator.eq),
    **dict.fromkeys(("Unequality", "Ne"), operator.ne),
    **dict.fromkeys(("StrictLessThan", "Lt"), operator.lt),
    **dict.fromkeys(("LessThan", "Le"), operator.le),
    **dict.fromkeys(("StrictGreaterThan", "Gt"), operator.gt),
    **dict.fromkeys(("GreaterThan", "Ge"), operator.ge),
    "And": lambda *parts: all(parts),
    "Or": lambda *parts: any(parts),
    "Not": operator.not_,
    "Add": _sum,
    "Mul": lambda *parts: math.prod(parts),
    **dict.fromkeys(_REMAINDERS, operator.mod),
    **dict.fromkeys(("FloorDiv", "CleanDiv"), operator.floordiv),
    **dict.fromkeys(("IntTrueDiv", "FloatTrueDiv", "/"), operator.truediv),
    **dict.fromkeys(("Pow", "PowByNatural", "FloatPow"), operator.pow),
    "Max": max,
    "Min": min,
    "Abs": abs,
    **dict.fromkeys(("TruncToInt", "TruncToFloat"), _whole),
    **dict.fromkeys(("CeilToInt", "ceiling"), math.ceil),
    **dict.fromkeys(("FloorToInt", "floor"), math.floor),
    "RoundToInt": round,
    "ToFloat": float,
    "Identity": lambda value: value,
    "OpaqueUnaryFn_sqrt": math.sqrt,
    "OpaqueUnaryFn_log2": math.log2,
    "OpaqueUnaryFn_log": math.log,
}
"""Operators as sympy and torch's own functions for sizes name them."""

_SIGNS = {
    operator.eq: "==",
    operator.ne: "!=",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.mod: "%",
    operator.floordiv: "//",
    operator.truediv: "/",
    operator.pow: "**",
}
_CALLS = {
    "TruncToInt": "int",
    "CeilToInt": "ceil",
    "FloorToInt": "floor",
    "RoundToInt": "round",
    "OpaqueUnaryFn_sqrt": "sqrt",
    "OpaqueUnaryFn_log2": "log2",
    "OpaqueUnaryFn_log": "log",
}
_JOINED = {"Add": " + ", "Mul": "*", "And": " and ", "Or": " or "}


def _special(tree: Tree, axes: Mapping[str, Sequence[int | str]]) -> str:
    """The commonest kinds of guard in words; "" for the others."""
    if (
        isinstance(tree, tuple)
        and len(tree) == 3
        and _HEADS.get(tree[0]) in (operator.le, operator.eq)
    ):
        for size, step in ((a, b) for a in tree[1:] for b in _numbers(tree)):
            if {tree[1], tree[2]} == {size, ("Mul", step, ("FloorDiv", size, step))}:
                return f"{_text(size, axes)} a multiple of {step}"
    if not isinstance(tree, tuple) or len(tree) != 3 or 0 not in tree[1:]:
        return ""
    asked, remainder = tree[0], tree[2] if tree[1] == 0 else tree[1]
    if not isinstance(remainder, tuple) or remainder[0] not in _REMAINDERS:
        return ""
    what, step = remainder[1], remainder[2]
    if isinstance(what, tuple) and what[0] == "Mul" and what[1] == -1 and len(what) == 3:
        what = what[2]  # -n is a multiple when n is
    words = {operator.eq: "a multiple of", operator.ne: "no multiple of"}.get(_HEADS[asked])
    return "" if words is None else f"{_text(what, axes)} {words} {_text(step, axes)}"


def _text(tree: Tree, axes: Mapping[str, Sequence[int | str]]) -> str:
    if not isinstance(tree, tuple):
        return f"{tree:g}" if isinstance(tree, float) else str(tree)
    head = tree[0]
    if head == "size":
        shape = axes.get(tree[1], ())
        name = shape[tree[2]] if tree[2] < len(shape) else None
        return name if isinstance(name, str) else f"{tree[1]}.shape[{tree[2]}]"
    parts = [_text(part, axes) for part in tree[1:]]
    if head in _JOINED:
        text = _JOINED[head].join(parts)
        return f"({text})" if head in ("Add", "Or") else text
    if head in ("ToFloat", "Identity"):
        return parts[0]
    if head == "Not":
        return f"not ({parts[0]})"
    sign = _SIGNS.get(_HEADS[head])
    if sign is not None and len(parts) == 2:
        return f"{parts[0]} {sign} {parts[1]}"
    return f"{_CALLS.get(head, head.lower())}({', '.join(parts)})"
