"""How far onnxruntime's CPU LayerNormalization is from float64, by the mean of its rows.

    python scripts/layer_norm_versions.py        # with any onnxruntime; needs numpy and onnx

Rows of 560 elements with standard deviation 1. Prints the rms error per mean.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WIDTH, ROWS, EPSILON = 560, 200, 1e-5
MEANS = (0, 3, 10, 30, 100)


def session() -> onnxruntime.InferenceSession:
    node = helper.make_node("LayerNormalization", ["x", "w", "b"], ["y"], epsilon=EPSILON, axis=-1)
    graph = helper.make_graph(
        [node],
        "layer_norm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", WIDTH])],
        [
            numpy_helper.from_array(np.ones(WIDTH, np.float32), "w"),
            numpy_helper.from_array(np.zeros(WIDTH, np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def main() -> None:
    run, draw = session(), np.random.default_rng(0)
    print(f"onnxruntime {onnxruntime.__version__}")
    for mean in MEANS:
        x = (draw.normal(size=(ROWS, WIDTH)) + mean).astype(np.float32)
        wide = x.astype(np.float64)
        centred = wide - wide.mean(1, keepdims=True)
        exact = centred / np.sqrt(centred.var(1, keepdims=True) + EPSILON)
        error = run.run(None, {"x": x})[0] - exact
        print(f"  mean {mean:>3}: rms error {np.sqrt(np.mean(error**2)):.2g}")


if __name__ == "__main__":
    main()
