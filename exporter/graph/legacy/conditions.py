"""What a trace has decided by sizes, as conditions: ``if frames % 2 == 0`` was asked at 12 frames.

Only what is computed from sizes of inputs is written down; of a size inside of the model it is not
known how it hangs on those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from exporter.graph.guards import Guard, Tree

_HEADS = {
    "eq": "Eq",
    "ne": "Ne",
    "lt": "Lt",
    "le": "Le",
    "gt": "Gt",
    "ge": "Ge",
    "add": "Add",
    "mul": "Mul",
    "floor_divide": "FloorDiv",
    "remainder": "Mod",
    "fmod": "Mod",
    "maximum": "Max",
    "minimum": "Min",
    "logical_and": "And",
    "bitwise_and": "And",
    "__and__": "And",
    "logical_or": "Or",
    "__or__": "Or",
    "logical_not": "Not",
    "bitwise_not": "Not",
    "ceil": "CeilToInt",
    "floor": "FloorToInt",
    "trunc": "TruncToInt",
}
_SAME = frozenset(
    "prim::NumToTensor aten::Int aten::to aten::detach aten::clone aten::ScalarImplicit"
    " aten::IntImplicit aten::Bool aten::item".split()
)


def condition_of(value: Any, answer: Any, names: Sequence[str], place: str) -> Guard | None:
    """What a trace rests on, once Python has read ``answer`` from a value of it.

    Args:
        names: of the inputs, in order. place: ``file:line`` of who has read it.

    Returns:
        None where the value is not computed from sizes of the inputs alone.
    """
    tree = _tree(value, names)
    if not isinstance(tree, tuple):
        return None
    if isinstance(answer, bool):
        condition: Tree = tree if answer else ("Not", tree)
    else:
        condition = ("Eq", tree, answer)
    guard = Guard(condition=condition, source=place, by_model=isinstance(answer, bool))
    return guard if guard.inputs() else None


def _tree(value: Any, names: Sequence[str]) -> Tree | None:
    node = value.node()
    kind = node.kind()
    inputs = list(node.inputs())
    if kind == "prim::Constant":
        constant = value.toIValue()
        constant = (
            constant.item() if isinstance(constant, Tensor) and constant.numel() == 1 else constant
        )
        return constant if isinstance(constant, int | float) else None
    if kind in _SAME:
        return _tree(inputs[0], names)
    if kind == "aten::size" and len(inputs) == 2:
        return _size(inputs[0], _tree(inputs[1], names), names)
    name = kind.partition("::")[2]
    if name == "sub":
        left, right = _tree(inputs[0], names), _tree(inputs[1], names)
        return None if left is None or right is None else ("Add", left, ("Mul", -1, right))
    if name == "neg":
        constant = _tree(inputs[0], names)
        return None if constant is None else ("Mul", -1, constant)
    if name == "div":
        down = len(inputs) > 2 and inputs[2].toIValue() == "floor"
        name, head = "div", "FloorDiv" if down else "/"
    elif name in _HEADS:
        head = _HEADS[name]
    else:
        return None
    count = 1 if head in ("Not", "CeilToInt", "FloorToInt", "TruncToInt") else 2
    parts = [_tree(each, names) for each in inputs[:count]]
    return None if any(part is None for part in parts) else (head, *parts)


def _size(tensor: Any, axis: Tree | None, names: Sequence[str]) -> Tree | None:
    node = tensor.node()
    if node.kind() != "prim::Param" or not isinstance(axis, int):
        return None
    first = [each.unique() for each in list(node.outputs())[: len(names)]]
    if tensor.unique() not in first:
        return None
    rank = len(tensor.type().sizes() or ())
    return ("size", names[first.index(tensor.unique())], axis % rank if rank else axis)
