"""Integers with a scale: which nodes compute with them, on which steps, with how many bits.

value = (q - zero) * step        low <= q <= high
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto

from exporter.graph.attributes import int_attribute
from exporter.graph.index import GraphIndex

FLOATS: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT8E4M3FN: "float8",
    TensorProto.FLOAT8E4M3FNUZ: "float8",
    TensorProto.FLOAT8E5M2: "float8",
    TensorProto.FLOAT8E5M2FNUZ: "float8",
    TensorProto.FLOAT4E2M1: "float4",
}


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer format: how many bits, and whether one of them is a sign."""

    bits: int
    signed: bool

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest number."""
        if self.signed:
            return -(1 << self.bits - 1), (1 << self.bits - 1) - 1
        return 0, (1 << self.bits) - 1


INTEGER_BITS: dict[int, Integer] = {
    TensorProto.INT8: Integer(8, True),
    TensorProto.UINT8: Integer(8, False),
    TensorProto.INT16: Integer(16, True),
    TensorProto.UINT16: Integer(16, False),
    TensorProto.INT4: Integer(4, True),
    TensorProto.UINT4: Integer(4, False),
    TensorProto.INT2: Integer(2, True),
    TensorProto.UINT2: Integer(2, False),
}
STORED_INTEGERS = tuple(f"int{bits}" for bits in range(1, 17))
"""Names of what a file may hold in integers with a scale."""
_ENOUGH = 1024
"""Elements from which a tensor that uses few different integers was made with few."""
_INTEGER_MATMULS = frozenset({"MatMulInteger", "ConvInteger"})
_NBITS = frozenset({"MatMulNBits", "GatherBlockQuantized", "MatMulBnb4"})
_ACTIVATIONS = frozenset(
    "QuantizeLinear DynamicQuantizeLinear MatMulInteger ConvInteger DynamicQuantizeMatMul "
    "MatMulIntegerToFloat DynamicQuantizeLSTM QGemm QAttention".split()
)
# Where a quantised weight stands among the inputs, and its scale.
_PLACES: Mapping[str, tuple[tuple[int, int | None], ...]] = {
    "DequantizeLinear": ((0, 1),),
    "MatMulInteger": ((1, None),),
    "ConvInteger": ((1, None),),
    "DynamicQuantizeMatMul": ((1, 2),),
    "MatMulIntegerToFloat": ((1, 3),),
    "DynamicQuantizeLSTM": ((1, 8), (2, 10)),
    "QLinearMatMul": ((0, 1), (3, 4)),
    "QLinearConv": ((3, 4),),
    "QGemm": ((3, 4),),
    "QAttention": ((1, 4),),
    "MatMulNBits": ((1, 2),),
    "MatMulBnb4": ((1, 2),),
    "GatherBlockQuantized": ((0, 2),),
}


# Where the zero point of the quantised weight at a place stands.
_ZERO_POINTS: Mapping[str, Mapping[int, int]] = {
    "DequantizeLinear": {0: 2},
    "MatMulInteger": {1: 3},
    "ConvInteger": {1: 3},
    "DynamicQuantizeMatMul": {1: 3},
    "MatMulIntegerToFloat": {1: 5},
    "DynamicQuantizeLSTM": {1: 9, 2: 11},
    "QLinearMatMul": {0: 2, 3: 5},
    "QLinearConv": {3: 5},
    "QGemm": {3: 5},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """One scale for a whole tensor."""

    step: float
    zero: int
    low: int
    high: int

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value that it can store."""
        return (self.low - self.zero) * self.step, (self.high - self.zero) * self.step

    @property
    def bits(self) -> int:
        """Bits of its integers."""
        return (self.high - self.low).bit_length()

    def through(self, values: np.ndarray) -> np.ndarray:
        """What a QuantizeLinear and a DequantizeLinear leave of float32 values."""
        step = np.float32(self.step)
        with np.errstate(invalid="ignore", over="ignore"):
            stored = np.rint(values / step) + self.zero
        return (np.clip(stored, self.low, self.high) - self.zero).astype(np.float32) * step


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedWeight:
    """A weight in integers.

    Attributes:
        name: of the initialiser.
        elements: how many numbers it stands for.
        bits: what it uses: a tensor of int8 that holds 16 different integers has 4.
        steps: one, one per channel or one per block; None where the file does not say.
        mean: of the numbers that it stands for, in steps, and of the steps themselves; None where
            blocks or packed numbers hide it.
        real: ``real(False)``: the numbers that it stands for. ``real(True)``: those that it would
            stand for with its scales along the other axis. None where that cannot be said.
    """

    name: str
    elements: int
    bits: int
    steps: np.ndarray | None
    mean: tuple[float, float] | None = None
    real: Callable[[bool], np.ndarray | None] = field(
        default=lambda other: None, compare=False, repr=False
    )


def is_quantised_node(node: onnx.NodeProto) -> bool:
    """True for operators that read or give integers with a scale."""
    kind = node.op_type
    return kind in _PLACES or kind in _ACTIVATIONS or kind.startswith("QLinear")


def quantises_activations(graph: GraphIndex, at: int) -> bool:
    """True when the node computes on quantised values, or makes them; weights are no values."""
    node = graph.nodes[at]
    if node.op_type == "MatMulNBits":
        # 4: the kernel quantises what it multiplies with to 8 bits.
        return int_attribute(node, "accuracy_level", 0) == 4
    if node.op_type == "QuantizeLinear":
        return node.input[0] not in graph.initializers
    return node.op_type in _ACTIVATIONS or node.op_type.startswith("QLinear")


def weights_of(
    graph: GraphIndex, at: int, nodes: Collection[int] = ()
) -> Iterator[QuantisedWeight]:
    """Quantised initialisers that a node reads.

    Args:
        nodes: the piece around it; the scale of an integer product stands in a node behind it.
    """
    node = graph.nodes[at]
    for place, scale in _PLACES.get(node.op_type, ()):
        if place >= len(node.input) or node.input[place] not in graph.initializers:
            continue
        name = node.input[place]
        tensor = graph.initializers[name]
        if node.op_type in _NBITS:
            bits = int_attribute(node, "bits", 4)
            # Blocks are filled up at the end of a row.
            elements = int_attribute(node, "K", 0) * int_attribute(node, "N", 0)
            elements = elements or graph.array(name).size * 8 // max(1, bits)
            if node.op_type == "GatherBlockQuantized" and tensor.data_type != TensorProto.UINT8:
                elements = graph.array(name).size
        elif tensor.data_type in INTEGER_BITS:
            bits = _used(graph.array(name), INTEGER_BITS[tensor.data_type].bits)
            elements = graph.array(name).size
        else:
            continue
        scales = node.input[scale] if scale is not None and scale < len(node.input) else ""
        if node.op_type in _INTEGER_MATMULS:
            scales = _scale_behind(graph, node, nodes)
        steps = (
            np.abs(graph.array(scales).astype(np.float64))
            if scales in (graph.initializers)
            else None
        )
        mean = None if node.op_type in _NBITS else _mean(graph, node, place, steps)
        yield QuantisedWeight(
            name=name,
            elements=elements,
            bits=bits,
            steps=steps,
            mean=mean,
            real=partial(_real, graph, node, place, steps),
        )


def _real(
    graph: GraphIndex,
    node: onnx.NodeProto,
    place: int,
    steps: np.ndarray | None,
    other_axis: bool,
) -> np.ndarray | None:
    at = _ZERO_POINTS.get(node.op_type, {}).get(place)
    if steps is None or at is None or not steps.size:
        return None
    given = node.input[at] if at < len(node.input) else ""
    if given and given not in graph.initializers:
        return None
    stored = graph.array(node.input[place]).astype(np.float32)
    zero = graph.array(given).astype(np.float32).reshape(-1) if given else np.zeros(1, np.float32)
    channels = max(steps.size, zero.size)
    if channels == 1:
        return None if other_axis else (stored - zero) * steps.astype(np.float32).reshape(-1)
    axis = int_attribute(node, "axis", 1)
    square = stored.ndim == 2 and stored.shape[0] == stored.shape[1] == channels
    if node.op_type != "DequantizeLinear" or not square:
        return None
    shape = (channels, 1) if (axis % 2 == 0) != other_axis else (1, channels)
    return (stored - _along(zero, shape)) * _along(steps.astype(np.float32).reshape(-1), shape)


def _along(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return values.reshape(shape) if values.size > 1 else values


def _mean(
    graph: GraphIndex, node: onnx.NodeProto, place: int, steps: np.ndarray | None
) -> tuple[float, float] | None:
    """Mean of a weight and of its steps, over all channels alike."""
    at = _ZERO_POINTS.get(node.op_type, {}).get(place)
    stored = graph.array(node.input[place])
    if steps is None or at is None or not stored.size:
        return None
    given = node.input[at] if at < len(node.input) else ""
    if given and given not in graph.initializers:
        return None
    zero = graph.array(given).astype(np.float64).reshape(-1) if given else np.zeros(1)
    steps = steps.reshape(-1)
    channels = max(steps.size, zero.size)
    if channels == 1:
        return float((stored.mean(dtype=np.float64) - zero[0]) * steps[0]), float(steps[0])
    axes = [axis for axis, size in enumerate(stored.shape) if size == channels]
    if len(axes) != 1 or {steps.size, zero.size} - {1, channels}:
        return None  # of a square weight nobody knows along which axis the channels lie
    others = tuple(axis for axis in range(stored.ndim) if axis != axes[0])
    rows = (stored.mean(axis=others, dtype=np.float64) - zero) * steps
    return float(rows.mean()), float(np.broadcast_to(steps, channels).mean())


def result_names(node: onnx.NodeProto) -> tuple[str, str] | None:
    """Names of the scale and the zero point of a QLinear operator's result; None for others."""
    if not (node.op_type.startswith("QLinear") or node.op_type == "QGemm"):
        return None
    if node.op_type == "QLinearConcat":
        return node.input[0], node.input[1]
    named = [name for name in node.input if name]
    if node.op_type == "QLinearConv":
        named = named[:8]  # a bias may follow
    return named[-2], named[-1]


def result_grid(graph: GraphIndex, at: int) -> Grid | None:
    """The grid on which a QLinear operator gives its result; None for other nodes."""
    names = result_names(graph.nodes[at])
    return None if names is None else _grid_of(graph, *names)


def input_grid(graph: GraphIndex, at: int) -> Grid | None:
    """The constant grid on which a QuantizeLinear stores a value; None for other nodes."""
    node = graph.nodes[at]
    if node.op_type != "QuantizeLinear" or len(node.input) < 3:
        return None
    return _grid_of(graph, node.input[1], node.input[2])


def _grid_of(graph: GraphIndex, scale: str, zero: str) -> Grid | None:
    if not {scale, zero} <= graph.initializers.keys():
        return None
    kind = INTEGER_BITS.get(graph.initializers[zero].data_type)
    if kind is None or graph.array(scale).size != 1:
        return None
    low, high = kind.ends
    return Grid(
        step=float(graph.array(scale).reshape(-1)[0]),
        zero=int(graph.array(zero).reshape(-1)[0]),
        low=low,
        high=high,
    )


def bits_of(graph: GraphIndex, at: int, types: Mapping[str, int]) -> set[str]:
    """Names of the integer formats that a quantised node holds: "int8", "int4"."""
    node = graph.nodes[at]
    widths = {f"int{weight.bits}" for weight in weights_of(graph, at)}
    if quantises_activations(graph, at):
        kinds = (types.get(name, 0) for name in (*node.input, *node.output))
        widths |= {f"int{INTEGER_BITS[k].bits}" for k in kinds if k in INTEGER_BITS} or {"int8"}
    elif node.op_type == "DequantizeLinear":
        kind = types.get(node.input[0], 0)
        if kind in INTEGER_BITS and node.input[0] not in graph.initializers:
            widths.add(f"int{INTEGER_BITS[kind].bits}")
        elif FLOATS.get(kind, "").startswith(("float8", "float4")):
            widths.add(FLOATS[kind])
    return widths


def _used(stored: np.ndarray, bits: int) -> int:
    """Bits that a tensor makes use of, never more than its format has.

    A tensor of few elements says nothing: it may use few numbers by chance.
    """
    if stored.size < _ENOUGH:
        return bits
    flat = stored.reshape(-1)
    seen = np.zeros(1 << 17, bool)  # every integer of sixteen bits, with a sign and without
    used = 1
    for start in range(0, flat.size, _ENOUGH * 64):
        seen[flat[start : start + _ENOUGH * 64].astype(np.int64) + (1 << 16)] = True
        places = np.flatnonzero(seen)
        spread, levels = int(places[-1] - places[0]), len(places)
        used = max(1, min((spread - 1).bit_length(), (levels - 1).bit_length()))
        if used >= bits:  # the rest of a large weight changes nothing
            return bits
    return min(bits, used)


def _scale_behind(graph: GraphIndex, node: onnx.NodeProto, nodes: Collection[int]) -> str:
    """The weight's scale of an integer product: what stands beside the scale of its other side."""
    for at in nodes:
        product = graph.nodes[at]
        if product.op_type != "Mul":
            continue
        constants = [name for name in product.input if name in graph.initializers]
        if len(constants) == 1 and any(_is_scale(graph, name, node) for name in product.input):
            return constants[0]
    return ""


def _is_scale(graph: GraphIndex, name: str, node: onnx.NodeProto) -> bool:
    """True for the scale that belongs to the quantised values which ``node`` multiplies."""
    if name not in graph.producer:
        return False
    maker = graph.nodes[graph.producer[name]]
    return maker.op_type == "DynamicQuantizeLinear" and node.input[0] == maker.output[0]
