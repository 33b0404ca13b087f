"""What an ONNX file is made of: nodes and weights by operator, weights by type, quantisation.

Branches of If and bodies of Loop and Scan are part of a file: silero's holds nearly all of its
nodes and weights there. A weight counts for the first operator that reads it; what nobody reads is
said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, TensorProto

from exporter.core.operators import is_constant
from exporter.graph.attributes import int_attribute
from exporter.graph.stored_tensors import bytes_of

STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training"})
CONTRIB = "com.microsoft"
_WORDS = {"float": "float32", "double": "float64"}
_INTEGER = frozenset(
    "QLinearConv QLinearMatMul MatMulInteger ConvInteger DynamicQuantizeLSTM DynamicQuantizeMatMul"
    " QGemm QAttention QLinearAdd QLinearMul QLinearSigmoid QLinearConcat".split()
)
_NBITS = frozenset({"MatMulNBits", "GatherBlockQuantized"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OpCount:
    """One operator: how many nodes, how many of them inside of branches, bytes of its weights."""

    op: str
    domain: str
    nodes: int
    inside: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightRow:
    """Weights of one type."""

    dtype: str
    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """What a file is made of.

    Attributes:
        formats: quantisation and lower precisions, in words.
        custom: operators that neither ONNX nor onnxruntime defines, as ``domain::op``.
        contrib: operators of onnxruntime's own, which no other runtime has.
        functions: of the file itself.
        unread: weights that no node reads. unread_bytes: of them.
    """

    ops: tuple[OpCount, ...]
    weights: tuple[WeightRow, ...]
    formats: tuple[str, ...]
    custom: tuple[str, ...]
    contrib: tuple[str, ...]
    functions: tuple[str, ...]
    unread: int
    unread_bytes: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A node of a file: its graph's constants by name, and how deep it stands in branches."""

    node: onnx.NodeProto
    constants: Mapping[str, TensorProto]
    depth: int


def walk(
    graph: onnx.GraphProto, outer: Mapping[str, TensorProto] | None = None
) -> Iterator[Placed]:
    """Every node, those of branches and bodies included, with the constants that it can read."""
    yield from _walk(graph, dict(outer or {}), 0)


def _walk(graph: onnx.GraphProto, outer: Mapping[str, TensorProto], depth: int) -> Iterator[Placed]:
    constants = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
    for node in graph.node:
        if is_constant(node):
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is not None:
                constants[node.output[0]] = value
    for node in graph.node:
        yield Placed(node, constants, depth)
        for attribute in node.attribute:
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                for inner in [attribute.g, *attribute.graphs]:
                    if inner.node:
                        yield from _walk(inner, constants, depth + 1)


def dtype_word(data_type: int) -> str:
    """``float16``, ``int4`` ... of a tensor's type; its number where this onnx knows no name."""
    try:
        word = TensorProto.DataType.Name(data_type).lower()  # type: ignore[arg-type]
    except ValueError:
        return f"type {data_type}"
    return _WORDS.get(word, word)


def anatomy_of(model: onnx.ModelProto) -> Anatomy:
    """Look at a model; values of its weights are not read."""
    nodes: Counter[tuple[str, str]] = Counter()
    inside: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    tensors: dict[int, TensorProto] = {}
    read: set[int] = set()
    placed = [*walk(model.graph), *(item for f in model.functions for item in _of_function(f))]
    for item in placed:
        tensors.update((id(tensor), tensor) for tensor in item.constants.values())
        node = item.node
        if is_constant(node):
            continue
        key = (node.op_type, "" if node.domain == "ai.onnx" else node.domain)
        nodes[key] += 1
        inside[key] += item.depth > 0
        for name in node.input:
            tensor = item.constants.get(name)
            if tensor is not None and id(tensor) not in read:
                read.add(id(tensor))
                sizes[key] += bytes_of(tensor)
    rows = [
        OpCount(
            op=op, domain=domain, nodes=count, inside=inside[op, domain], bytes=sizes[op, domain]
        )
        for (op, domain), count in nodes.items()
    ]
    unread = [tensor for key, tensor in tensors.items() if key not in read]
    made = {f"{f.domain}::{f.name}" for f in model.functions}
    names = {f"{domain}::{op}" for op, domain in nodes if domain not in STANDARD}
    return Anatomy(
        ops=tuple(sorted(rows, key=lambda row: (-row.bytes, -row.nodes, row.op))),
        weights=_weights(tensors.values()),
        formats=tuple(_formats(placed, tensors.values())),
        custom=tuple(sorted(n for n in names - made if not n.startswith(f"{CONTRIB}::"))),
        contrib=tuple(sorted(n for n in names if n.startswith(f"{CONTRIB}::"))),
        functions=tuple(sorted(made)),
        unread=len(unread),
        unread_bytes=sum(map(bytes_of, unread)),
    )


def _of_function(function: onnx.FunctionProto) -> Iterator[Placed]:
    graph = onnx.GraphProto()
    graph.node.extend(function.node)
    return _walk(graph, {}, 1)


def _weights(tensors: object) -> tuple[WeightRow, ...]:
    weights: dict[str, list[TensorProto]] = {}
    for tensor in tensors:  # type: ignore[attr-defined]
        weights.setdefault(dtype_word(tensor.data_type), []).append(tensor)
    rows = [
        WeightRow(
            dtype=dtype,
            tensors=len(arrays),
            elements=sum(_elements(tensor) for tensor in arrays),
            bytes=sum(map(bytes_of, arrays)),
        )
        for dtype, arrays in weights.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.bytes))


def _elements(tensor: TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _formats(placed: list[Placed], tensors: object) -> Iterator[str]:
    """Quantisation in words."""
    counts: Counter[str] = Counter()
    for item in placed:
        node = item.node
        if node.op_type == "DequantizeLinear" and node.input:
            tensor = item.constants.get(node.input[0])
            if tensor is None:
                counts["activations between QuantizeLinear and DequantizeLinear (QDQ)"] += 1
            else:
                word = dtype_word(tensor.data_type)
                counts[f"{word} weights behind DequantizeLinear (QDQ)"] += 1
        elif node.op_type in _NBITS:
            bits = int_attribute(node, "bits", 4)
            counts[f"int{bits} weights in {node.op_type}, packed into bytes"] += 1
        elif node.op_type in _INTEGER:
            counts[f"integer arithmetic in {node.op_type}"] += 1
        elif node.op_type == "DynamicQuantizeLinear":
            counts["activations quantised as they come (DynamicQuantizeLinear)"] += 1
    for what, count in sorted(counts.items()):
        yield f"{what}, {count} node(s)"
    floats = {dtype_word(t.data_type) for t in tensors if _elements(t) > 1}  # type: ignore[attr-defined]
    for word in sorted(floats & {"float16", "bfloat16", "float8e4m3fn", "float8e5m2"}):
        yield f"{word} weights"
