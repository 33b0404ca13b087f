"""``//`` of sizes as Python means it: rounded down, below zero too.

ONNX's ``Div`` of integers drops the fraction, and the exporter translates ``//`` to it alone: of
``-(-n // 2)``, which rounds up, the file makes what rounds down. What may be negative is made
divisible first: ``(a - a % b) // b``, with a remainder that has the sign of ``b`` in both.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node


def with_floor_division(program: ExportedProgram) -> ExportedProgram:
    """The program, its divisions of what may be negative written so that nothing is rounded."""
    changed = False
    for node in list(program.graph.nodes):
        if node.op == "call_function" and node.target is operator.floordiv:
            changed = _rewritten(node) or changed
    if changed:
        program.graph_module.recompile()
    return program


def _rewritten(node: Node) -> bool:
    above, below = node.args
    if not isinstance(above, Node) or not (_may_be_negative(above) or _may_be_negative(below)):
        return False
    rest = _before(node, operator.mod, above, below)
    node.args = (_before(node, operator.sub, above, rest), below)
    return True


def _before(node: Node, target: Any, left: Node, right: Any) -> Node:
    with node.graph.inserting_before(node):
        made = node.graph.call_function(target, (left, right))
    made.meta.update(node.meta)
    made.meta["val"] = target(_value(left), _value(right))
    return made


def _value(value: Any) -> Any:
    return value.meta.get("val") if isinstance(value, Node) else value


def _may_be_negative(number: Any) -> bool:
    value = _value(number)
    if isinstance(value, torch.SymInt):
        inside = value.node
        return bool(inside.shape_env.bound_sympy(inside.expr).lower < 0)
    return not isinstance(value, int) or value < 0
