"""Decoys in a lower precision: the same pairs, the second file as a quantiser writes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.graph.index import index_graph
from tests.joining.decoys import Pair, drawn

FORMS = ("float16", "qdq", "channels", "dynamic")


def lowered(seed: int, form: str) -> Pair:
    """A pair from a seed, its second file in a lower precision."""
    pair = drawn(seed)
    truth = dict(pair.truth)
    model = onnx.ModelProto()
    model.CopyFrom(pair.actual.model)
    if form == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        made = OnnxModel(convert_float_to_float16(model, keep_io_types=True))
        made.topological_sort()
        model = made.model
        inputs = {t.name for t in model.graph.input}
        for node in model.graph.node:
            for name in node.output:
                truth.setdefault(name, "x" if node.input[0] in inputs else "y")
    else:
        _quantise(model, truth, form)
    return replace(
        pair, actual=index_graph(model, Path()), truth=truth, story=f"{form}, {pair.story}"
    )


def _quantise(model: onnx.ModelProto, truth: dict[str, str], form: str) -> None:
    graph = model.graph
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:], graph.initializer[:]
    put = {"activation_scale": np.float32(5 / 127), "activation_zero": np.int8(3)}
    for name, weight in weights.items():
        codes, steps = _codes(weight, channels=form == "channels")
        put |= {f"{name}_q": codes, f"{name}_s": steps}
        if form != "dynamic":
            held = [f"{name}_q", f"{name}_s"]
            graph.node.append(helper.make_node("DequantizeLinear", held, [name], axis=1))
    for node in nodes:
        if form == "dynamic" and node.op_type == "MatMul":
            _dynamic(graph, node)
            continue
        graph.node.append(node)
        out = node.output[0]
        if form == "dynamic" or out == "y":
            continue
        scale = ["activation_scale", "activation_zero"]
        graph.node.append(helper.make_node("QuantizeLinear", [out, *scale], [f"{out}_q"]))
        graph.node.append(helper.make_node("DequantizeLinear", [f"{out}_q", *scale], [f"{out}_dq"]))
        truth[f"{out}_dq"] = truth[out]
        for later in nodes:
            later.input[:] = [f"{out}_dq" if name == out else name for name in later.input]
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in put.items())
    onnx.checker.check_model(model)


def _codes(weight: np.ndarray, *, channels: bool) -> tuple[np.ndarray, np.ndarray]:
    steps = np.abs(weight).max(axis=0 if channels else None) / np.float32(127)
    return np.rint(weight / steps).astype(np.int8), np.asarray(steps, np.float32)


def _dynamic(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    x, weight = node.input
    out = node.output[0]
    made = [f"{out}_q", f"{out}_step", f"{out}_zero"]
    graph.node.append(helper.make_node("DynamicQuantizeLinear", [x], made))
    reads = [made[0], f"{weight}_q", made[2]]
    graph.node.append(helper.make_node("MatMulInteger", reads, [f"{out}_sum"]))
    cast = helper.make_node("Cast", [f"{out}_sum"], [f"{out}_cast"], to=TensorProto.FLOAT)
    graph.node.append(cast)
    graph.node.append(helper.make_node("Mul", [made[1], f"{weight}_s"], [f"{out}_steps"]))
    graph.node.append(helper.make_node("Mul", [f"{out}_cast", f"{out}_steps"], [out]))
