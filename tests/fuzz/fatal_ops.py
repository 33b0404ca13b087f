"""Operators whose attributes or constants divide by zero, have no end or no room."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


def _constants(draw: Random, big: int) -> dict[str, Any]:
    """Every constant that an operator may take, by its name."""
    return {
        "shape": np.array([1, 1, -1]),
        "zeros": np.zeros(2, np.int64),
        "least": np.array([5, -(2**63)]),
        "minus": np.array([0, -1]),
        "weight": np.ones((1, 1, 3), np.float32),
        "big": np.array([big], np.int64),
        "big0": np.array(big, np.int64),
        "big3": np.array([1, big, big], np.int64),
        "wide": np.array([1, big, 1], np.int64),
        "pads": np.array([0, 0, big] * 2, np.int64),
        "pair": np.zeros(2, np.float32),
        "nought": np.array(0),
        "step": np.array(draw.choice((0, 1, 4, -1))),
        "scales": np.array([1, 1, draw.choice((0, -1, 1e9, np.nan))], np.float32),
        "one": np.array([1], np.uint64),
        "far": np.array([99], np.uint64),
        "eight": np.ones((2, 2), np.int8),
        "scale": np.float32(0),
    }


def _nodes(draw: Random, big: int) -> list[tuple[str, tuple[str, ...], dict[str, Any]]]:
    """Operator, inputs and attributes of each; ``flat`` is an input of the graph, [1, 1, n]."""
    equation = draw.choice(("", "->", "abc->ab" * 9, "...", "ii", "abc,abc,abc->a"))
    return [
        ("Mod", ("least", draw.choice(("zeros", "minus"))), {}),
        ("Div", ("least", draw.choice(("zeros", "minus"))), {}),
        ("Conv", ("flat", "weight"), {"group": draw.choice((0, -1, 2, big))}),
        ("Conv", ("flat", "weight"), {"strides": [big]}),
        ("Conv", ("flat", "weight"), {"dilations": [big], "pads": [big, big]}),
        ("Conv", ("flat", "weight"), {"kernel_shape": [big]}),
        ("ConvTranspose", ("flat", "weight"), {"strides": [big], "output_padding": [big]}),
        ("MaxPool", ("flat",), {"kernel_shape": [draw.choice((0, big))], "strides": [big]}),
        ("AveragePool", ("flat",), {"kernel_shape": [3], "pads": [big, big]}),
        ("LpPool", ("flat",), {"kernel_shape": [3], "p": draw.choice((0, -1))}),
        ("OneHot", ("zeros", "big", "pair"), {}),
        ("TopK", ("flat", "big"), {}),
        ("Tile", ("flat", "big3"), {}),
        ("Pad", ("flat", "pads"), {}),
        ("Slice", ("flat", "zeros", "least", "zeros", "zeros"), {}),
        ("Split", ("flat", "big"), {"axis": 2}),
        ("Split", ("flat",), {"axis": 2, "num_outputs": big}),
        ("Gather", ("flat", "big"), {"axis": 2}),
        ("Einsum", ("flat",) * (1 + equation.count(",")), {"equation": equation}),
        ("LSTM", ("flat", "weight", "weight"), {"hidden_size": big}),
        ("GRU", ("flat", "weight", "weight"), {"hidden_size": 1, "direction": "sideways"}),
        ("STFT", ("flat", "step"), {}),
        ("DFT", ("flat", "big0"), {"axis": 2}),
        ("HannWindow", ("big0",), {}),
        ("Range", ("nought", "big0", "step"), {}),
        ("EyeLike", ("flat",), {"k": big, "dtype": draw.choice((1, 0, 8, 99))}),
        ("DepthToSpace", ("flat",), {"blocksize": draw.choice((0, -1, big))}),
        ("LayerNormalization", ("flat", "weight"), {"axis": draw.choice((-9, 9, -1))}),
        ("GroupNormalization", ("flat", "weight", "weight"), {"num_groups": 0}),
        ("CumSum", ("flat", "big"), {}),
        ("Cast", ("flat",), {"to": draw.choice((0, 99, 8, 16, 17, 22, 23, -1))}),
        ("BitShift", ("one", "far"), {"direction": "LEFT"}),
        ("Resize", ("flat", "", "scales"), {}),
        ("Expand", ("flat", "wide"), {}),
        ("ScatterND", ("flat", "big", "weight"), {}),
        ("DequantizeLinear", ("eight", "scale"), {"block_size": big}),
        ("RandomUniform", (), {"shape": [abs(big), 2**31]}),
        ("Multinomial", ("flat",), {"sample_size": big}),
        ("Squeeze", ("flat", "big"), {}),
        ("Unsqueeze", ("flat", "big"), {}),
        ("Transpose", ("flat",), {"perm": draw.choice(([0, 0, 0], [5], [], [2, 1, -1]))}),
        ("Softmax", ("flat",), {"axis": big}),
        ("Upsample", ("flat",), {"scales": [1.0, 1.0, 1e9]}),
        ("Gelu", ("flat",), {"approximate": "no"}),
        ("Attention", ("flat",) * 3, {"q_num_heads": 0, "kv_num_heads": 0}),
    ]


def fatal_ops(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """One of them, on an input of the graph or on constants."""
    big = draw.choice((0, -1, 2**31 - 1, 2**31, 2**62, 1))
    constants = _constants(draw, big)
    op, takes, attributes = draw.choice(_nodes(draw, big))
    for name in {"shape", *takes} & constants.keys():
        held = numpy_helper.from_array(np.asarray(constants[name]), name)
        model.graph.initializer.append(held)
    flat = helper.make_node("Reshape", [model.graph.input[0].name, "shape"], ["flat"])
    fatal = helper.make_node(op, list(takes), ["fo", "fi"][: 1 + (op in ("TopK", "Split"))])
    for name, value in attributes.items():
        if value != []:
            fatal.attribute.append(helper.make_attribute(name, value))
    if draw.random() < 0.2:
        model.opset_import[0].version = draw.choice((9, 11, 13, 17, 21, 23))
    model.graph.node.extend([flat, fatal])
    if draw.random() < 0.6:
        model.graph.output.append(helper.make_tensor_value_info("fo", 1, None))
