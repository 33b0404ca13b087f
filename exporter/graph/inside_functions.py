"""What the standard's functions compute inside, beside the node that computes them in one.

    x -> LayerNormalization -> y
    x -> ReduceMean -> y::inside::Mean -> Sub -> y::inside::Deviation -> ...

A file in which a tool has written such a function as its nodes holds values that the other file
has none for. Here it has them; its own node stays, and nothing that was there reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnx import helper, inliner

from exporter.core.operators import is_constant, is_standard
from exporter.graph.index import GraphIndex, index_graph, with_nodes
from exporter.graph.lowered.in_real_numbers import holds_less
from exporter.graph.value_types import value_types

_INSIDE = "::inside::"


@dataclass(frozen=True, slots=True)
class ShownGraph:
    """A graph, and which of its values the file itself has not."""

    graph: GraphIndex
    inside: frozenset[str] = frozenset()


def show_inside(graph: GraphIndex, other: GraphIndex) -> ShownGraph:
    """Show the values inside of functions that a graph computes in more nodes than another does.

    Only where the other one holds float32: in a lower precision its constants are told by those of
    this graph, and functions have constants of their own.
    """
    ours, theirs = _functions(graph), _functions(other)
    kinds = {kind for kind, count in ours.items() if count > theirs[kind]}
    if not kinds or holds_less(other):
        return ShownGraph(graph)
    types = value_types(graph)
    nodes: list[onnx.NodeProto] = []
    constants = dict(graph.initializers)
    inside: set[str] = set()
    for node in graph.nodes:
        nodes.append(node)
        body = _body(graph, node, types) if _kind(node) in kinds else None
        if body is not None:
            constants |= body.initializers
            nodes += body.nodes
            inside.update(name for body_node in body.nodes for name in body_node.output if name)
    whole = with_nodes(replace(graph, initializers=constants), tuple(nodes))
    return ShownGraph(whole, frozenset(inside))


def _kind(node: onnx.NodeProto) -> str:
    return node.op_type if is_standard(node) else ""


def _functions(graph: GraphIndex) -> Counter[str]:
    """How often a graph computes each of the standard's functions in one node."""
    versions = {opset.domain: opset.version for opset in graph.model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 1))
    kinds = Counter(_kind(node) for node in graph.nodes)
    return Counter({kind: count for kind, count in kinds.items() if _is_function(kind, version)})


def _is_function(kind: str, version: int) -> bool:
    try:
        schema: Any = onnx.defs.get_schema(kind, version)  # onnx's stubs know less of it
    except onnx.defs.SchemaError:
        return False
    return schema.has_function or schema.has_context_dependent_function


def _body(graph: GraphIndex, node: onnx.NodeProto, types: Mapping[str, int]) -> GraphIndex | None:
    """The nodes of a function under names of their own, but for those that compute its results.

    None where it does not give floats of floats, has branches inside, or reads or gives more than
    the function does.
    """
    reads, made = [n for n in node.input if n], [n for n in node.output if n]
    if not made or types.get(made[0]) != onnx.TensorProto.FLOAT:
        return None
    if any(not types.get(name) for name in reads):
        return None
    model = onnx.ModelProto(ir_version=graph.model.ir_version)
    model.opset_import.extend(graph.model.opset_import)
    model.graph.name = "function"
    own = model.graph.node.add()
    own.CopyFrom(node)
    own.domain = ""
    for name in dict.fromkeys(reads):
        model.graph.input.append(helper.make_tensor_value_info(name, types[name], None))
    for name in made:
        model.graph.output.append(helper.make_tensor_value_info(name, types.get(name, 0), None))
    try:
        inlined = inliner.inline_selected_functions(
            model, [("", node.op_type)], exclude=False, inline_schema_functions=True
        )
    except RuntimeError:  # its own check of how many there are
        return None
    if any(is_constant(inner) and not inner.attribute for inner in inlined.graph.node):
        return None  # of a parameter that is left to its default
    body = index_graph(inlined, Path())
    if len(body.nodes) < 2 or any(a.HasField("g") for n in body.nodes for a in n.attribute):
        return None
    names = {name: name for name in reads}
    for name in (*body.initializers, *body.producer):
        names[name] = f"{made[0]}{_INSIDE}{name}"
    constants = {}
    for name, tensor in body.initializers.items():
        tensor.name = names[name]
        constants[names[name]] = tensor
    inner = [n for n in body.nodes if not _is_last(body, n)]
    return replace(body, nodes=tuple(_named(n, names, node) for n in inner), initializers=constants)


def _is_last(body: GraphIndex, node: onnx.NodeProto) -> bool:
    outputs = [name for name in node.output if name]
    return all(name in body.outputs and not body.consumers.get(name) for name in outputs)


def _named(
    node: onnx.NodeProto, names: Mapping[str, str], origin: onnx.NodeProto
) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.input[:] = [names.get(name, name) for name in node.input]
    made.output[:] = [names.get(name, name) for name in node.output]
    made.name = made.output[0]
    made.metadata_props.extend(origin.metadata_props)
    return made
