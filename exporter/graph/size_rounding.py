"""``int(x.shape[1] * 0.29)``: what is computed of sizes with digits, and made whole again.

Python computes it in float64, and the exporter writes it in float32, where 0.29 * 100 is 29 and not
28.999999999999996: the file is a frame longer at 100, at 200, at 400. What is rounded to a size is
computed in the file in float64 too, op by op as Python does.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript.function_libs.torch_lib.ops.core import aten_scalar_tensor
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node

from exporter.graph.recurrent import op

_ATEN = torch.ops.aten
_ROUNDED: dict[Any, Any] = {
    math.floor: _ATEN.floor.default,
    math.ceil: _ATEN.ceil.default,
    math.trunc: _ATEN.trunc.default,
    round: _ATEN.round.default,
}
_OPS: dict[Any, Any] = {
    operator.truediv: _ATEN.div.Tensor,
    operator.mul: _ATEN.mul.Tensor,
    operator.add: _ATEN.add.Tensor,
    operator.sub: _ATEN.sub.Tensor,
    operator.neg: _ATEN.neg.default,
    torch._sym_sqrt: _ATEN.sqrt.default,  # type: ignore[attr-defined]
}


def with_exact_rounding(program: ExportedProgram) -> ExportedProgram:
    """The program, what it rounds to sizes computed in float64."""
    changed = False
    for node in list(program.graph.nodes):
        if node.op == "call_function" and node.target in _ROUNDED and not any(node.args[1:]):
            changed = _rewritten(node) or changed
    if changed:
        program.graph_module.recompile()
    return program


def _rewritten(node: Node) -> bool:
    if not isinstance(_value(node.args[0]), torch.SymFloat) or not _is_known(node.args[0]):
        return False
    with node.graph.inserting_before(node):
        number = _double(node.graph, node.args[0], node)
        rounded = _call(node.graph, node, _ROUNDED[node.target], number)
        whole = _call(node.graph, node, _ATEN._to_copy.default, rounded, dtype=torch.int64)
        size = _call(node.graph, node, _ATEN._local_scalar_dense.default, whole)
    node.replace_all_uses_with(size)
    _erase(node)
    return True


def _erase(node: Node) -> None:
    """Take a number out that nobody reads any more, and those that it was computed of."""
    known = node.target in _ROUNDED or node.target in _OPS or node.target is torch.sym_float
    if not known or node.users:
        return
    before = node.all_input_nodes
    node.graph.erase_node(node)
    for each in (each for each in before if not each._erased):
        _erase(each)


def _is_known(number: Any) -> bool:
    """True of what ``_double`` can make of a number."""
    if not isinstance(number, Node):
        return isinstance(number, (int, float))
    if isinstance(_value(number), torch.SymInt):
        return True
    known = number.target in _OPS or number.target is torch.sym_float
    return known and not number.kwargs and all(map(_is_known, number.args))


def _double(graph: Graph, number: Any, at: Node) -> Node:
    """``[]``, float64: a number that is computed of sizes."""
    whole = isinstance(_value(number), torch.SymInt)
    if whole or not isinstance(number, Node):
        return _call(graph, at, _ATEN.scalar_tensor.default, number, dtype=torch.float64)
    parts = [_double(graph, part, at) for part in number.args]
    if number.target is torch.sym_float:
        return parts[0]
    return _call(graph, at, _OPS[number.target], *parts)


def _call(graph: Graph, at: Node, target: Any, *args: Any, **kwargs: Any) -> Node:
    made = graph.call_function(target, args, kwargs)
    made.meta.update(at.meta)
    if target is not _ATEN._local_scalar_dense.default:
        with _fake_mode(at):
            made.meta["val"] = torch.empty((), dtype=kwargs.get("dtype", torch.float64))
    return made


def _fake_mode(node: Node) -> Any:
    modes = (getattr(_value(each), "fake_mode", None) for each in node.graph.nodes)
    return next(mode for mode in modes if mode is not None)


def _value(value: Any) -> Any:
    return value.meta.get("val") if isinstance(value, Node) else value


def _scalar_tensor(
    s: Any, dtype: int = -1, layout: str = "", device: str = "", pin_memory: bool = False
) -> Any:
    """As the exporter writes it; a number in float64 with all its digits, not float32's."""
    if dtype == ir.DataType.DOUBLE and isinstance(s, (int, float)):
        return op.Constant(value=ir.tensor(torch.tensor(s, dtype=torch.float64)))
    return aten_scalar_tensor(s, dtype, layout, device, pin_memory)


def translations_for(program: ExportedProgram) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Of a captured program: of roots of sizes and, where it has numbers in float64, of these.

    All other programs are written by the exporter alone, whose values keep their names and order.
    """
    root = {torch._sym_sqrt: op.Sqrt}  # type: ignore[attr-defined]
    parts = (part for part in program.graph_module.modules() if isinstance(part, GraphModule))
    double = any(_is_double(node) for part in parts for node in part.graph.nodes)
    return root | ({_ATEN.scalar_tensor.default: _scalar_tensor} if double else {})


def _is_double(node: Node) -> bool:
    """Whether a number in float64 is computed here, or will be for what is made whole."""
    if node.target is _ATEN.scalar_tensor.default:
        return node.kwargs.get("dtype") is torch.float64
    return node.op == "call_function" and node.target in _ROUNDED
