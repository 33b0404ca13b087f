"""bfloat16 goes into onnxruntime and comes out of it bit for bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import run_model
from exporter.execution.ort_values import ort_value

VALUES = np.array([[0.0, -1.5, 3e38], [np.inf, 1e-40, 0.3125]], np.float32)


def cast(into: int, shape: list[int]) -> onnx.ModelProto:
    source = TensorProto.FLOAT if into == TensorProto.BFLOAT16 else TensorProto.BFLOAT16
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=into)],
        "g",
        [helper.make_tensor_value_info("x", source, shape)],
        [helper.make_tensor_value_info("y", into, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_an_input_of_bfloat16_is_taken():
    x = VALUES.astype(ml_dtypes.bfloat16)
    found = run_model(cast(TensorProto.FLOAT, [2, 3]), {"x": x}, Deployment(threads=1))["y"]
    np.testing.assert_array_equal(found, x.astype(np.float32))


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
def test_an_output_of_bfloat16_is_read(shape):
    x = np.resize(VALUES, shape)
    model = cast(TensorProto.BFLOAT16, list(shape))
    found = run_model(model, {"x": x}, Deployment(threads=1))["y"]
    assert found.dtype == np.float32 and found.shape == shape
    np.testing.assert_array_equal(found, x.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_float32_goes_into_what_takes_bfloat16():
    found = run_model(cast(TensorProto.FLOAT, [2, 3]), {"x": VALUES}, Deployment(threads=1))["y"]
    np.testing.assert_array_equal(found, VALUES.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_other_formats_are_what_they_were():
    assert ort_value(np.ones((2, 2), np.float16)).data_type() == "tensor(float16)"
    assert ort_value(VALUES.T).numpy().tolist() == VALUES.T.tolist()
