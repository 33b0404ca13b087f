"""What nodes that compute with stored integers mean in real numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporter.graph.attributes import int_attribute
from exporter.graph.grids import INTEGER_BITS
from exporter.graph.index import GraphIndex
from exporter.graph.lowered.dequantise import along, blocks_of_bits, stored_integers
from exporter.graph.lowered.real_writer import Code, Writer

Write = Callable[[Writer, int, onnx.NodeProto], bool]


def _read(node: onnx.NodeProto, slot: int) -> str:
    return node.input[slot] if slot < len(node.input) else ""


def _attributes(node: onnx.NodeProto, *but: str) -> dict:
    return {
        item.name: helper.get_attribute_value(item)
        for item in node.attribute
        if item.name not in but
    }


def _quantize(w: Writer, _: int, node: onnx.NodeProto) -> bool:
    source = w.read(node.input[0])
    w.store(node.output[0], source, node.input[1], _read(node, 2), source)
    if w.codes[node.output[0]].real != source and len(w.graph.consumers[source]) == 1:
        w.cut_off.add(source)
    return True


def _dequantize(w: Writer, _: int, node: onnx.NodeProto) -> bool:
    name = node.input[0]
    kind = w.types.get(name, 0)
    if name not in w.codes and (
        name not in w.graph.initializers or (kind not in INTEGER_BITS and kind != TensorProto.INT32)
    ):
        return False
    axis, block = int_attribute(node, "axis", 1), int_attribute(node, "block_size", 0)
    real_name = w.real(name, node.input[1], _read(node, 2), axis, block)
    if real_name in w.constants:
        w.call(real_name, node.output[0])
    else:
        w.add("Identity", real_name, out=node.output[0])
    return True


def _dynamic(w: Writer, _: int, node: onnx.NodeProto) -> bool:
    real, step, zero = w.on_its_own_grid(node.input[0])
    names = [*node.output, "", ""][:3]
    made = [names[1] or w.new("step"), names[2] or w.new("zero")]
    w.add("Identity", step, out=made[0])
    w.add("Identity", zero, out=made[1])
    w.codes[names[0]] = Code(real, *made)
    w.sums.add(made[1])
    w.scales.add(made[0])
    return True


def _integer_product(w: Writer, at: int, node: onnx.NodeProto) -> bool:
    """MatMulInteger, ConvInteger: the sum of (a - zero) * (b - zero)."""
    conv = node.op_type == "ConvInteger"
    left, right = node.input[0], node.input[1]
    code = w.codes.get(left)
    if code is None:
        return False
    if w.same(code.zero, _read(node, 2)):
        ours = w.add("Div", code.real, w.read(code.step))
    else:
        shifted = w.as_code(code)
        given = _read(node, 2)
        ours = w.add("Sub", shifted, w.in_floats(given)) if given else shifted
    if right in w.graph.initializers:
        steps = _scale_behind(w.graph, at, code.step)
        axis = 0 if conv else -1
        factor = np.ones(()) if steps is None else steps
        stored = w.weight(right, factor, _read(node, 3), axis)
        theirs = w.constant(right, stored, along(factor, stored.values.shape, axis))
    elif right in w.codes and w.same(w.codes[right].zero, _read(node, 3)):
        theirs = w.add("Div", w.codes[right].real, w.read(w.codes[right].step))
    else:
        return False
    op, attributes = ("Conv", _attributes(node)) if conv else ("MatMul", {})
    w.add(op, ours, theirs, out=node.output[0], **attributes)
    w.sums.add(node.output[0])
    return True


def _scale_behind(graph: GraphIndex, at: int, but: str) -> np.ndarray | None:
    """The step of the weight of an integer product; ``but``: that of what it is multiplied with."""
    steps = [name for name in scales_behind(graph, at) if name != but]
    return graph.array(steps[0]) if len(steps) == 1 else None


def scales_behind(graph: GraphIndex, at: int) -> tuple[str, ...]:
    """Constant steps that an integer product is multiplied with, in the order of its operands."""
    name = graph.nodes[at].output[0]
    for _ in range(3):
        users = [graph.nodes[user] for user in graph.consumers.get(name, ())]
        products = [node for node in users if node.op_type == "Mul"]
        for node in products:
            other = next((read for read in node.input if read != name), "")
            maker = graph.producer.get(other)
            names = [other] if maker is None else list(graph.nodes[maker].input)
            scales = tuple(n for n in names if n in graph.initializers)
            if scales:
                return scales
        casts = [node for node in users if node.op_type in ("Cast", "Reshape", "Identity")]
        if len(casts) != 1:
            return ()
        name = casts[0].output[0]
    return ()


def _matmul_to_float(w: Writer, _: int, node: onnx.NodeProto) -> bool:
    ours = w.real(node.input[0], node.input[2], _read(node, 4), -1)
    theirs = w.real(node.input[1], node.input[3], _read(node, 5), -1)
    return _with_bias(w, node, w.add("MatMul", ours, theirs), _read(node, 6))


def _dynamic_matmul(w: Writer, _: int, node: onnx.NodeProto) -> bool:
    ours = w.on_its_own_grid(node.input[0])[0]
    theirs = w.real(node.input[1], node.input[2], _read(node, 3), -1)
    return _with_bias(w, node, w.add("MatMul", ours, theirs), _read(node, 4))


def _with_bias(w: Writer, node: onnx.NodeProto, product: str, bias: str) -> bool:
    if bias:
        w.add("Add", product, w.read(bias), out=node.output[0])
    else:
        w.add("Identity", product, out=node.output[0])
    return True


def _bits(w: Writer, _: int, node: onnx.NodeProto) -> bool:
    if _read(node, 4) or node.input[1] not in w.graph.initializers:
        return False  # columns in another order
    weight = w.constant(node.input[1], blocks_of_bits(w.graph, node))
    return _with_bias(w, node, w.add("MatMul", node.input[0], weight), _read(node, 5))


def _recurrent(w: Writer, _: int, node: onnx.NodeProto) -> bool:
    """DynamicQuantizeLSTM: its weights lie the other way round."""
    reads = [w.read(name) if name else "" for name in node.input[:8]]
    for slot, scale in ((1, 8), (2, 10)):
        codes = w.graph.array(node.input[slot])
        steps = w.graph.array(node.input[scale]).astype(np.float64)
        zeros = w.graph.array(node.input[scale + 1]).astype(np.float64)
        shape = (codes.shape[0], 1, -1)
        steps, zeros = (np.broadcast_to(a.reshape(shape), codes.shape) for a in (steps, zeros))
        kind = w.graph.initializers[node.input[slot]].data_type
        stored = stored_integers(node.input[slot], codes, steps, zeros, kind)
        name = w.constant(node.input[slot], stored)
        reads[slot] = w.add("Transpose", name, perm=[0, 2, 1])
    if w.noise is not None:
        reads[0] = w.on_its_own_grid(reads[0])[0]
    made = helper.make_node("LSTM", reads, list(node.output), **_attributes(node))
    w.nodes.append(made)
    return True


def _qlinear(w: Writer, _: int, node: onnx.NodeProto) -> bool:
    kind = node.op_type.removeprefix("QLinear")
    write = _QLINEAR.get(kind)
    if write is None:
        return False
    try:
        real, step, zero = write(w, node)
    except KeyError:
        return False  # integers of whose meaning nothing is known
    if not step:
        w.add("Identity", real, out=node.output[0])
    else:
        w.store(node.output[0], real, step, zero, node.output[0])
    return True


def _q_product(w: Writer, node: onnx.NodeProto) -> tuple[str, str, str]:
    i = node.input
    return w.add("MatMul", w.real(i[0], i[1], i[2]), w.real(i[3], i[4], i[5], -1)), i[6], i[7]


def _q_conv(w: Writer, node: onnx.NodeProto) -> tuple[str, str, str]:
    i = node.input
    reads = [w.real(i[0], i[1], i[2]), w.real(i[3], i[4], i[5], 0)]
    if _read(node, 8):
        reads.append(_bias(w, i[8], i[1], i[4]))
    return w.add("Conv", *reads, **_attributes(node)), i[6], i[7]


def _q_gemm(w: Writer, node: onnx.NodeProto) -> tuple[str, str, str]:
    i = node.input
    axis = 0 if int_attribute(node, "transB", 0) else -1
    reads = [w.real(i[0], i[1], i[2]), w.real(i[3], i[4], i[5], axis)]
    if _read(node, 6):
        reads.append(_bias(w, i[6], i[1], i[4]))
    return w.add("Gemm", *reads, **_attributes(node)), _read(node, 7), _read(node, 8)


def _bias(w: Writer, name: str, left: str, right: str) -> str:
    steps = w.graph.array(left).astype(np.float64) * w.graph.array(right).astype(np.float64)
    codes = w.graph.array(name)
    kind = w.graph.initializers[name].data_type
    return w.constant(name, stored_integers(name, codes, steps.reshape(-1), np.zeros(1), kind))


def _q_pair(op: str) -> Callable[[Writer, onnx.NodeProto], tuple[str, str, str]]:
    def write(w: Writer, node: onnx.NodeProto) -> tuple[str, str, str]:
        i = node.input
        return w.add(op, w.real(i[0], i[1], i[2]), w.real(i[3], i[4], i[5])), i[6], i[7]

    return write


def _q_single(op: str) -> Callable[[Writer, onnx.NodeProto], tuple[str, str, str]]:
    def write(w: Writer, node: onnx.NodeProto) -> tuple[str, str, str]:
        i = node.input
        attributes = _attributes(node, "opset", "channels_last")
        return w.add(op, w.real(i[0], i[1], i[2]), **attributes), i[3], i[4]

    return write


def _q_concat(w: Writer, node: onnx.NodeProto) -> tuple[str, str, str]:
    i = node.input
    reads = [w.real(i[at], i[at + 1], i[at + 2]) for at in range(2, len(i), 3)]
    return w.add("Concat", *reads, **_attributes(node)), i[0], i[1]


def _q_where(w: Writer, node: onnx.NodeProto) -> tuple[str, str, str]:
    i = node.input
    name = w.add("Where", w.read(i[0]), w.real(i[1], i[2], i[3]), w.real(i[4], i[5], i[6]))
    return name, i[7], i[8]


_QLINEAR = {
    "MatMul": _q_product,
    "Conv": _q_conv,
    "QGemm": _q_gemm,
    "Add": _q_pair("Add"),
    "Mul": _q_pair("Mul"),
    "Sigmoid": _q_single("Sigmoid"),
    "LeakyRelu": _q_single("LeakyRelu"),
    "Softmax": _q_single("Softmax"),
    "AveragePool": _q_single("AveragePool"),
    "GlobalAveragePool": _q_single("GlobalAveragePool"),
    "ReduceMean": _q_single("ReduceMean"),
    "Concat": _q_concat,
    "Where": _q_where,
}

REAL: Mapping[str, Write] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _integer_product,
    "ConvInteger": _integer_product,
    "MatMulIntegerToFloat": _matmul_to_float,
    "DynamicQuantizeMatMul": _dynamic_matmul,
    "DynamicQuantizeLSTM": _recurrent,
    "MatMulNBits": _bits,
    "QGemm": _qlinear,
    "QLinear": _qlinear,
}
"""Writers of nodes; one that gives False has written nothing, the node is copied then."""
