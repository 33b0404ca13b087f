"""A float32 graph retyped to another precision, for type inference only: no weights inside."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from exporter.graph.index import GraphIndex
from exporter.graph.value_types import inferred_types

_TYPES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def retyped(
    graph: GraphIndex, precision: str, inside: frozenset[str] | None = None
) -> onnx.ModelProto:
    """The graph with every float32 in another precision; weights become graph inputs.

    Args:
        inside: names of values; only the nodes between the first and the last of them are kept,
            and what enters is typed as an input. ``None`` keeps everything.
    """
    target = _TYPES[precision]
    inferred = inferred_types(graph)
    keep = range(len(graph.nodes)) if inside is None else _between(graph, inside)
    model = onnx.ModelProto(ir_version=graph.model.ir_version)
    model.opset_import.extend(graph.model.opset_import)
    model.functions.extend(graph.model.functions)
    body = model.graph
    body.name = "retyped"
    made: set[str] = set()
    for index in keep:
        node = graph.nodes[index]
        for name in graph.reads[index]:
            if name not in made and name not in {value.name for value in body.input}:
                _declare(body, graph, name, inferred, target)
        copy = body.node.add()
        copy.CopyFrom(node)
        for attribute in copy.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
                attribute.i = target
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.data_type = target
        made.update(name for name in node.output if name)
    for name in graph.outputs if inside is None else sorted(inside & made):
        if name in made:
            body.output.add(name=name)
    return model


def _declare(
    body: onnx.GraphProto, graph: GraphIndex, name: str, types: dict[str, int], target: int
) -> None:
    tensor = graph.initializers.get(name)
    if tensor is not None and tensor.data_type != TensorProto.FLOAT and tensor.ByteSize() < 4096:
        body.initializer.add().CopyFrom(tensor)
        body.input.append(
            onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
        )
        return
    kind = tensor.data_type if tensor is not None else types.get(name, TensorProto.FLOAT)
    shape = list(tensor.dims) if tensor is not None else None
    kind = target if kind == TensorProto.FLOAT else kind
    body.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))


def _between(graph: GraphIndex, inside: frozenset[str]) -> list[int]:
    """Nodes that compute some values, up to the values' own predecessors outside of them."""
    producers = {graph.producer[name] for name in inside if name in graph.producer}
    first = min(producers, default=0)
    stack = list(producers)
    while stack:
        for name in graph.reads[stack.pop()]:
            node = graph.producer.get(name)
            # Helper nodes of the exporter lie between the values of one module.
            if node is not None and node not in producers and node > first and name not in inside:
                producers.add(node)
                stack.append(node)
    return sorted(producers)
