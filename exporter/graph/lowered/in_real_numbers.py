"""The function that a file in a lower precision rounds: its own nodes in real numbers.

    file    x -> QuantizeLinear -> DequantizeLinear -> MatMul <- DequantizeLinear <- integers
    here    x ---------------------------------------> MatMul <- the numbers they stand for

Names of floating values are the file's. Nothing is cut off but where an end of the range is zero,
for a quantiser takes the Relu in front of it away. A wrong scale or zero point stays in: what
enters by one scale and leaves by another is not the same number.

With ``noise`` every number that the file stores is moved at random by up to half a step of its
format: what the format costs, without the file's own roundings. A step counts only as far as the
numbers need it, so that a wrong scale does not widen its own limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from exporter.graph.grids import FLOATS, INTEGER_BITS, is_quantised_node
from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.lowered.dequantise import Stored, stored_float
from exporter.graph.lowered.real_nodes import REAL, scales_behind
from exporter.graph.lowered.real_writer import CODED_MOVES, Code, Writer
from exporter.graph.stored_tensors import external_tensors_in
from exporter.graph.value_types import value_types

_NARROW: Mapping[int, float] = {TensorProto.FLOAT16: 2.0**-11, TensorProto.BFLOAT16: 2.0**-8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrounded:
    """A file in real numbers.

    Attributes:
        graph: to be computed in float64. hidden: its values that the file has not, or in integers.
        stored: constants that the file holds in a lower precision, by their key.
        cut_off: values of which all who read them see only what lies on one side of zero.
        as_stored: initialisers of ``graph`` that are such constants, with the numbers of the file.
    """

    graph: GraphIndex
    hidden: frozenset[str]
    stored: Mapping[str, Stored]
    as_stored: frozenset[str]
    cut_off: frozenset[str]


def holds_less(graph: GraphIndex) -> bool:
    """Whether a file holds anything in less than float32."""
    if any(tensor.data_type in _NARROW for tensor in graph.initializers.values()):
        return True
    if any(v.type.tensor_type.elem_type in _NARROW for v in graph.model.graph.input):
        return True
    casts = (
        attribute.i in _NARROW
        for node in graph.nodes
        if node.op_type == "Cast"
        for attribute in node.attribute
    )
    return any(casts) or any(is_quantised_node(node) for node in graph.nodes)


def unrounded(
    graph: GraphIndex,
    *,
    constants: Mapping[str, np.ndarray] | None = None,
    noise: int | None = None,
) -> Unrounded:
    """Write a file in real numbers.

    Args:
        constants: arrays to take for stored constants, by key. noise: a seed.
    """
    types = value_types(graph)
    writer = Writer(graph, types, constants or {}, noise)
    _read_later(writer)
    for at, node in enumerate(graph.nodes):
        write = REAL.get(node.op_type)
        if write is None and node.op_type.startswith("QLinear"):
            write = REAL["QLinear"]
        if write is not None and write(writer, at, node):
            continue
        _plain(writer, node, types)
    return _indexed(graph, writer, types)


def _read_later(writer: Writer) -> None:
    """Constants of integers that are moved, and only then read as numbers: rows of an embedding.

    What they stand for does not depend on when it is asked, as long as one step is that of all.
    """
    graph = writer.graph
    for name, tensor in graph.initializers.items():
        grid = _later_grid(graph, name) if tensor.data_type in INTEGER_BITS else None
        if grid is not None:
            writer.codes[name] = Code(writer.real(name, *grid), *grid)


def _later_grid(graph: GraphIndex, name: str) -> tuple[str, str] | None:
    """Step and zero point, one for all, by which integers are read behind what moves them."""
    stack, seen = [name], {name}
    while stack:
        value = stack.pop()
        for at in graph.consumers.get(value, ()):
            node = graph.nodes[at]
            if node.input[0] != value:
                continue
            if value != name and (grid := _grid(graph, at)) is not None:
                return grid
            if node.op_type in CODED_MOVES and node.output[0] not in seen:
                seen.add(node.output[0])
                stack.append(node.output[0])
    return None


def _grid(graph: GraphIndex, at: int) -> tuple[str, str] | None:
    """Constants by which a node reads the integers that come first; None where there are none."""
    node = graph.nodes[at]
    if node.op_type == "DequantizeLinear":
        step = node.input[1]
    elif node.op_type in ("MatMulInteger", "ConvInteger") and len(scales_behind(graph, at)) == 2:
        step = scales_behind(graph, at)[0]
    else:
        return None
    zero = (*node.input, "")[2]
    constant = step in graph.initializers and (not zero or zero in graph.initializers)
    return (step, zero) if constant and graph.array(step).size == 1 else None


def _plain(writer: Writer, node: onnx.NodeProto, types: Mapping[str, int]) -> None:
    """A node that computes in floats, or moves what is stored."""
    coded = [writer.codes[name] for name in node.input if name in writer.codes]
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.metadata_props[:]
    for tensor in external_tensors_in([made]):
        writer.graph.take_in(tensor)
    _widen(made)
    for slot, name in enumerate(node.input):
        if name in writer.codes and node.op_type in CODED_MOVES:
            made.input[slot] = writer.codes[name].real
        elif name in writer.codes:
            made.input[slot] = writer.as_code(writer.codes[name])
        elif name in writer.graph.initializers:
            made.input[slot] = _constant(writer, name)
    if node.op_type == "Cast" and _to_float(node):
        summed = node.input[0] in writer.sums
        if summed or types.get(node.input[0]) in (TensorProto.FLOAT, *_NARROW):
            made.op_type = "Identity"
            del made.attribute[:]
        if summed:
            writer.aside.update(node.output)
    scaling = node.op_type in ("Mul", "Reshape") and writer.scales & {*node.input}
    if scaling and {*node.input} <= writer.scales | writer.graph.initializers.keys():
        writer.scales.update(node.output)
    moved = coded[0] if coded and node.op_type in CODED_MOVES else None
    for slot, name in enumerate(node.output):
        if not name:
            continue
        if moved is not None:
            made.output[slot] = writer.new(name)
            writer.codes[name] = Code(made.output[slot], moved.step, moved.zero)
        elif writer.noise is not None and types.get(name) in _NARROW:
            made.output[slot] = writer.new(name)
    writer.nodes.append(made)
    for slot, name in enumerate(node.output):
        if name and moved is None and made.output[slot] != name:
            writer.move_by_share(made.output[slot], _NARROW[types[name]], name)


def _to_float(node: onnx.NodeProto) -> bool:
    return any(
        attribute.name == "to" and attribute.i in (TensorProto.FLOAT, *_NARROW)
        for attribute in (node.attribute)
    )


def _constant(writer: Writer, name: str) -> str:
    tensor = writer.graph.initializers[name]
    if tensor.data_type not in _NARROW:
        writer.kept[name] = tensor
        return name
    return writer.constant(name, stored_float(name, writer.graph.array(name)))


def _widen(node: onnx.NodeProto) -> None:
    """float32 for float16 and bfloat16 in the attributes of a node, and in its subgraphs."""
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i in _NARROW:
            attribute.i = TensorProto.FLOAT
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for tensor in graph.initializer:
                _widen_tensor(tensor)
            for value in (*graph.input, *graph.output, *graph.value_info):
                if value.type.tensor_type.elem_type in _NARROW:
                    value.type.tensor_type.elem_type = TensorProto.FLOAT
            for inner in graph.node:
                _widen(inner)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in _NARROW:
        wide = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))


def _indexed(graph: GraphIndex, writer: Writer, types: Mapping[str, int]) -> Unrounded:
    model = onnx.ModelProto(ir_version=graph.model.ir_version)
    model.opset_import.extend(graph.model.opset_import)
    model.functions.extend(graph.model.functions)
    model.graph.name = "unrounded"
    for source, target in (
        (graph.model.graph.input, model.graph.input),
        (graph.model.graph.output, model.graph.output),
    ):
        for value in source:
            if value.name in graph.initializers and source is graph.model.graph.input:
                continue
            made = target.add()
            made.CopyFrom(value)
            if made.type.tensor_type.elem_type in _NARROW:
                made.type.tensor_type.elem_type = TensorProto.FLOAT
    inner = {name for node in writer.nodes for name in _inner_reads(node)}
    for name in inner & graph.initializers.keys() - writer.kept.keys():
        writer.kept[name] = graph.initializers[name]
    for name in graph.outputs:
        if name in graph.initializers:
            writer.kept[name] = graph.initializers[name]
    # What only float64 holds stays there: the quotient of a weight and its step.
    model.graph.initializer.extend(writer.kept.values())
    for name, array in writer.constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(array), name))
    model.graph.node.extend(writer.nodes)
    # Bytes of large tensors may lie outside of the file's protobuf.
    index = index_graph(model, graph.folder, {name: graph.array(name) for name in writer.kept})
    made = set(index.producer)
    floating = {n for n in graph.producer if types.get(n, 0) in FLOATS or types.get(n, 0) == 0}
    discrete = set(graph.producer) - floating - writer.codes.keys() - writer.sums
    return Unrounded(
        graph=index,
        hidden=frozenset(made - floating - discrete) | writer.scales | writer.aside,
        stored=writer.stored,
        cut_off=frozenset(writer.cut_off),
        as_stored=frozenset(n for n, key in writer.keys.items() if key not in writer.given),
    )


def _inner_reads(node: onnx.NodeProto) -> set[str]:
    names = set()
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for inner in graph.node:
                names |= set(inner.input) | _inner_reads(inner)
    return names
