"""Small files with a VAD: samples above 0.5 are segments of one block, a row's sum is its result.

    waveform -> blocks of 4 -> loud ones -> segments [S, 2] -> rows [S, 4] -> total [S], loudest [S]

How many rows there are is asked of NonZero's result, as the exporter does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BLOCK = 4


def toy_file(
    folder: Path,
    *,
    extra: Sequence[onnx.NodeProto] = (),
    outputs: Sequence[str] = ("segments", "peaks", "total", "row_sizes"),
    metadata: bool = True,
    waveform: str = "waveform",
) -> Path:
    """Write a toy; ``extra`` nodes come last.

    ``row_sizes`` [S, rows] repeats the number of rows that the graph believes in.
    """
    nodes = [
        helper.make_node("Reshape", [waveform, "to_blocks"], ["blocks"]),
        helper.make_node("ReduceMax", ["blocks", "axis_1"], ["peaks"], keepdims=0),
        helper.make_node("Greater", ["peaks", "half"], ["loud"]),
        helper.make_node("NonZero", ["loud"], ["found"]),
        helper.make_node("Transpose", ["found"], ["places"]),
        helper.make_node("Mul", ["places", "block"], ["starts"]),
        helper.make_node("Add", ["starts", "block"], ["ends"]),
        helper.make_node("Concat", ["starts", "ends"], ["segments"], axis=1),
        helper.make_node("Shape", ["places"], ["num_rows"], start=0, end=1),
        helper.make_node("Gather", ["segments", "zero"], ["first"], axis=1),
        helper.make_node("Add", ["first", "inside"], ["index"]),
        helper.make_node("Gather", [waveform, "index"], ["rows"]),
        helper.make_node("Mul", ["rows", "weight"], ["weighed"]),
        helper.make_node("ReduceSum", ["weighed", "axis_1"], ["total"], keepdims=0),
        helper.make_node("Expand", ["num_rows", "num_rows"], ["spread"]),
        helper.make_node("Mul", ["first", "zero"], ["nothing_per_row"]),
        helper.make_node("Add", ["nothing_per_row", "spread"], ["row_sizes"]),
        *extra,
    ]
    constants = {
        "to_blocks": np.array([-1, BLOCK]),
        "axis_1": np.array([1]),
        "half": np.array(0.5, np.float32),
        "block": np.array(BLOCK),
        "zero": np.array([0]),
        "inside": np.arange(BLOCK).reshape(1, BLOCK),
        "weight": np.ones((1, BLOCK), np.float32),
    }
    names = [name for node in nodes for name in node.output]
    floats = {"peaks", "total", "rows", "per_frame"}
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(waveform, TensorProto.FLOAT, ["num_samples"])],
        [
            helper.make_tensor_value_info(
                name, TensorProto.FLOAT if name in floats else TensorProto.INT64, None
            )
            for name in outputs
            if name in names
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if metadata:
        model.metadata_props.add(key="export_verify.sample_rate_hz", value="16000")
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def loud(*blocks: int, total: int = 8) -> np.ndarray:
    """A waveform in which these blocks are loud, each in its own way."""
    waveform = np.zeros(total * BLOCK, np.float32)
    for block in blocks:
        waveform[block * BLOCK : (block + 1) * BLOCK] = 0.6 + block / 100
    return waveform
