"""Nodes in float64: only float32 is widened, and the evaluator's convolutions are ONNX's."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.core.errors import ArtifactError
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_float64 import EVALUATOR, ONNXRUNTIME, run_double
from exporter.execution.onnx_runs import ModelRun
from exporter.graph.float64_piece import double_model

DRAW = np.random.default_rng(0)


def model(nodes: list, inputs: dict[str, int], outputs: list[str], weights: dict | None = None):
    tensors = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def floats(*shape: int) -> np.ndarray:
    return DRAW.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("op", "x", "w", "attributes"),
    [
        ("Conv", (2, 4, 20), (6, 4, 5), {"strides": [2], "pads": [3, 1], "dilations": [2]}),
        ("Conv", (2, 4, 20), (4, 1, 5), {"group": 4, "auto_pad": "SAME_UPPER"}),
        ("Conv", (2, 4, 21), (4, 2, 4), {"group": 2, "auto_pad": "SAME_LOWER", "strides": [3]}),
        ("Conv", (1, 2, 9, 8), (3, 2, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
        ("Conv", (1, 2, 5, 5, 5), (3, 2, 2, 2, 2), {}),
        ("ConvTranspose", (2, 4, 9), (4, 3, 5), {"strides": [3], "pads": [2, 1]}),
        ("ConvTranspose", (2, 4, 9), (4, 3, 5), {"strides": [3], "pads": [1, 1],
                                                 "output_padding": [2], "dilations": [2]}),
        ("ConvTranspose", (1, 4, 5, 6), (4, 1, 3, 2), {"group": 4, "strides": [2, 1]}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_are_onnx_s(op: str, x: tuple, w: tuple, attributes: dict, bias: bool):
    channels = w[0] if op == "Conv" else w[1] * attributes.get("group", 1)
    weights = {"w": floats(*w), **({"b": floats(channels)} if bias else {})}
    made = model([helper.make_node(op, ["x", *weights], ["y"], **attributes)],
                 {"x": TensorProto.FLOAT}, ["y"], weights)  # fmt: skip
    feeds = {"x": floats(*x)}
    found = run_double(made, feeds)
    assert found.engine == EVALUATOR, found.why
    expected = ModelRun(made, Deployment(threads=1)).run(feeds)["y"]
    assert found.values["y"].dtype == np.float64
    np.testing.assert_allclose(found.values["y"], expected, atol=1e-5)


@pytest.mark.parametrize("op", ["Erf", "Gelu"])
@pytest.mark.parametrize("size", [100, 100_000])
def test_the_error_function_is_computed_in_float64(op: str, size: int):
    """The evaluator's own gives float32; Gelu is made of it."""
    made = model([helper.make_node(op, ["x"], ["y"])], {"x": TensorProto.FLOAT}, ["y"])
    del made.opset_import[:]
    made.opset_import.append(helper.make_opsetid("", 20))
    x = floats(size)
    found = run_double(made, {"x": x})
    wide = x.astype(np.float64)
    exact = np.array([math.erf(v / (1 if op == "Erf" else math.sqrt(2))) for v in wide])
    exact = exact if op == "Erf" else 0.5 * wide * (1 + exact)
    assert found.values["y"].dtype == np.float64
    # What Gelu is made of holds the root of two in float32.
    within = 1e-15 if op == "Erf" else 1e-7
    assert np.abs(found.values["y"] - exact).max() < within
    narrow = found.values["y"].astype(np.float32).astype(np.float64)
    assert not np.array_equal(found.values["y"], narrow)


def test_onnxruntime_is_asked_first():
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": TensorProto.FLOAT}, ["y"],
                 {"w": floats(4, 3)})  # fmt: skip
    found = run_double(made, {"x": floats(2, 4)})
    assert found.engine == ONNXRUNTIME


def test_a_cast_to_float16_stays_what_the_file_does():
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
    ]
    x = floats(50)
    found = run_double(model(nodes, {"x": TensorProto.FLOAT}, ["y"]), {"x": x})
    assert found.values["y"].dtype == np.float64
    np.testing.assert_array_equal(found.values["y"], x.astype(np.float16).astype(np.float64))


def test_weights_of_the_file_are_its_own():
    """Rounded to float16 they are rounded in float64 as well."""
    w = floats(4, 3).astype(np.float16).astype(np.float32)
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": TensorProto.FLOAT}, ["y"],
                 {"w": w})  # fmt: skip
    x = floats(2, 4)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    np.testing.assert_allclose(run_double(made, {"x": x}).values["y"], exact, rtol=1e-14)


def test_constants_and_casts_in_subgraphs_are_widened():
    one = numpy_helper.from_array(np.float32(0.1), "c")
    body = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=one),
         helper.make_node("Mul", ["x", "c"], ["t"])],
        "then", [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Constant", [], ["z"], value_float=0.5),
         helper.make_node("Add", ["x", "z"], ["e"])],
        "else", [], [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [helper.make_node("If", ["k"], ["y"], then_branch=body, else_branch=other)]
    made = model(nodes, {"x": TensorProto.FLOAT, "k": TensorProto.BOOL}, ["y"])
    x = floats(3)
    for taken, expected in (
        (True, x.astype(np.float64) * np.float64(np.float32(0.1))),
        (False, x.astype(np.float64) + 0.5),
    ):
        found = run_double(made, {"x": x, "k": np.array(taken)})
        np.testing.assert_allclose(found.values["y"], expected, rtol=1e-15)


def test_what_the_standard_has_in_float32_alone_stays_so():
    scales = np.array([1, 1, 2], np.float32)
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear")
    made = model([node], {"x": TensorProto.FLOAT}, ["y"], {"s": scales})
    wide = double_model(made)
    assert [n.op_type for n in wide.graph.node] == ["Cast", "Resize"]
    x = floats(1, 1, 5)
    found = run_double(made, {"x": x})
    expected = ModelRun(made, Deployment(threads=1)).run({"x": x})["y"]
    np.testing.assert_allclose(found.values["y"], expected, atol=1e-5)


def test_quantised_weights_keep_their_grid():
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["w"]),
             helper.make_node("MatMul", ["x", "w"], ["y"])]  # fmt: skip
    q, s = np.array([[3, -7]], np.int8), np.float32(0.01)
    made = model(nodes, {"x": TensorProto.FLOAT}, ["y"], {"q": q, "s": s})
    x = floats(2, 1)
    found = run_double(made, {"x": x})
    np.testing.assert_allclose(found.values["y"], x @ (q * s), rtol=1e-6)


def test_an_operator_of_nobody_is_refused_and_said():
    node = helper.make_node("Own", ["x"], ["y"], domain="mine")
    made = model([node], {"x": TensorProto.FLOAT}, ["y"])
    with pytest.raises(ArtifactError, match="mine::Own"):
        double_model(made)
    found = run_double(made, {"x": floats(2)})
    assert not found.values and "mine::Own" in found.why
