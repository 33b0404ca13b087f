"""Tiny ONNX files as strangers make them: odd names, no metadata, axes without names; and faults.

x [?, ?, 3]  --+-- last two frames of the call before in front -- Conv of 3 frames -- Tanh -- y
cache [?, 2, 3]/
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

X, CACHE, Y, NEW = "serving/x:0", "cache:0", "serving/y:0", "new_cache:0"
FAULTS = {
    "sees_ahead": "causality",
    "mixes_rows": "padding",
    "draws": "determinism",
    "divides_by_level": "silence",
    "ends_at_300": "shapes",
    "cache_unread": "reset",
    "cache_grows": "reset",
}
"""What is wrong with a file -> the contract that must say so."""


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, Sequence[int | str | None]]],
    outputs: Sequence[str],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    gives: int = TensorProto.FLOAT,
) -> Path:
    """A file of these nodes; outputs are of one type, and say nothing of their shape."""
    given = [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()]
    held = [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()]
    made = [helper.make_tensor_value_info(name, gives, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "main", given, made, held)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="elsewhere")
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def stream(path: Path, fault: str = "", seed: int = 0) -> Path:
    """The file above; ``fault`` is a key of ``FAULTS``."""
    random = np.random.default_rng(seed)
    node = helper.make_node
    weights = {
        "w": (0.4 * random.standard_normal((3, 3, 3))).astype(np.float32),
        "b": np.zeros(3, np.float32),
        "minus2": np.array([-3 if fault == "cache_grows" else -2]),
        "end": np.array([2**40]),
        "one": np.array([1]),
        "small": np.array(0.01, np.float32),
        "table": random.standard_normal((300, 3)).astype(np.float32),
        "zero": np.array([0]),
    }
    in_front = "nothing" if fault == "cache_unread" else CACHE
    nodes = [
        node("Mul", [CACHE, "none"], ["nothing"]),
        node("Concat", [in_front, X], ["long"], axis=1),
        node("Slice", ["long", "minus2", "end", "one"], [NEW]),
        node("Transpose", ["long"], ["turned"], perm=[0, 2, 1]),
        node("Conv", ["turned", "w", "b"], ["conv"], name="/encoder/conv/Conv"),
        node("Transpose", ["conv"], ["back"], perm=[0, 2, 1]),
    ]
    weights["none"] = np.array(0.0, np.float32)
    last = "back"
    extra: dict[str, list[onnx.NodeProto]] = {
        "sees_ahead": [
            node("ReduceMean", ["back"], ["mean"], axes=[1], name="/encoder/norm/ReduceMean"),
            node("Add", ["back", "mean"], ["bad"], name="/encoder/norm/Add"),
        ],
        "mixes_rows": [
            node("ReduceMean", ["back"], ["mean"], axes=[0], name="/encoder/norm/ReduceMean"),
            node("Sub", ["back", "mean"], ["bad"], name="/encoder/norm/Sub"),
        ],
        "draws": [
            node("RandomNormalLike", ["back"], ["noise"], name="/encoder/dither/RandomNormalLike"),
            node("Mul", ["noise", "small"], ["little"]),
            node("Add", ["back", "little"], ["bad"]),
        ],
        "divides_by_level": [
            node("ReduceL2", ["back"], ["level"], axes=[2], name="/encoder/level/ReduceL2"),
            node("Div", ["back", "level"], ["bad"], name="/encoder/level/Div"),
        ],
        "ends_at_300": [
            node("Shape", [X], ["sizes"]),
            node("Slice", ["sizes", "one", "two", "zero"], ["frames"]),
            node("Slice", ["table", "zero", "frames", "zero"], ["positions"]),
            node("Add", ["back", "positions"], ["bad"], name="/encoder/positions/Add"),
        ],
    }
    if fault in extra:
        nodes += extra[fault]
        last = "bad"
    weights["two"] = np.array([2])
    nodes.append(node("Tanh", [last], [Y]))
    given = {
        X: (TensorProto.FLOAT, [None, None, 3]),
        CACHE: (TensorProto.FLOAT, [None, 2, 3]),
    }
    return save(path, nodes, given, [Y, NEW], weights)


def waveform(path: Path) -> Path:
    """[rows, samples] and lengths -> a level per row of what the lengths say is in use."""
    node = helper.make_node
    nodes = [
        node("Shape", ["audio"], ["sizes"]),
        node("Gather", ["sizes", "one"], ["samples"]),
        node("Range", ["zero", "samples", "step"], ["places"]),
        node("Unsqueeze", ["audio_len", "last"], ["ends"]),
        node("Less", ["places", "ends"], ["mask"]),
        node("Where", ["mask", "audio", "nothing"], ["kept"]),
        node("ReduceSumSquare", ["kept"], ["level"], axes=[1], keepdims=0),
    ]
    weights = {
        "one": np.array(1),
        "zero": np.array(0),
        "step": np.array(1),
        "last": np.array([1]),
        "nothing": np.array(0.0, np.float32),
    }
    given = {
        "audio": (TensorProto.FLOAT, ["n0", "t0"]),
        "audio_len": (TensorProto.INT64, ["n0"]),
    }
    return save(path, nodes, given, ["level"], weights)


def endless(path: Path) -> Path:
    """y = x, behind a loop that does not end."""
    node, info = helper.make_node, helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["on"], ["still"]), node("Add", ["held", "one"], ["more"])],
        "body",
        [info("i", TensorProto.INT64, []), info("on", TensorProto.BOOL, []),
         info("held", TensorProto.FLOAT, [])],
        [info("still", TensorProto.BOOL, []), info("more", TensorProto.FLOAT, [])],
    )  # fmt: skip
    nodes = [
        node("ReduceMax", ["x"], ["first"], keepdims=0),
        node("Loop", ["", "true", "first"], ["last"], body=body),
        node("Add", ["x", "last"], ["y"]),
    ]
    weights = {"true": np.array(True), "one": np.array(1, np.float32)}
    return save(path, nodes, {"x": (TensorProto.FLOAT, ["n", 3])}, ["y"], weights)


def dies(path: Path) -> Path:
    """y, behind the smallest integer divided by -1: the processor ends whoever runs it."""
    node = helper.make_node
    nodes = [
        node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        node("Mul", ["whole", "none"], ["nothing"]),
        node("Add", ["nothing", "smallest"], ["lowest"]),
        node("Div", ["lowest", "minus"], ["late"]),
        node("Cast", ["late"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = {"none": np.array(0), "smallest": np.array(-(2**63)), "minus": np.array(-1)}
    return save(path, nodes, {"x": (TensorProto.FLOAT, ["n", 3])}, ["y"], weights)


def swells(path: Path) -> Path:
    """y = x + 1, by way of 8 GiB of zeros."""
    node = helper.make_node
    nodes = [
        node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        node("ReduceMax", ["whole"], ["most"], keepdims=0),
        node("Mul", ["most", "none"], ["nothing"]),
        node("Add", ["nothing", "many"], ["size"]),
        node("ConstantOfShape", ["size"], ["zeros"]),
        node("Add", ["zeros", "one"], ["ones"]),
        node("ReduceMax", ["ones"], ["last"], keepdims=0),
        node("Add", ["x", "last"], ["y"]),
    ]
    weights = {"none": np.array([0]), "many": np.array([2**30]), "one": np.array(1, np.float32)}
    return save(path, nodes, {"x": (TensorProto.FLOAT, ["n", 3])}, ["y"], weights)


def nested(path: Path, depth: int = 60) -> Path:
    """y, behind functions of which each calls the one before twice: 2**60 nodes to look at."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    node = helper.make_node
    made = [helper.make_function("own", "F0", ["x"], ["y"], [node("Relu", ["x"], ["y"])], opsets)]
    for level in range(1, depth):
        twice = [node(f"F{level - 1}", [a], [b], domain="own") for a, b in ("xm", "my")]
        made.append(helper.make_function("own", f"F{level}", ["x"], ["y"], twice, opsets))
    info = helper.make_tensor_value_info
    given, gives = info("x", TensorProto.FLOAT, ["n", 3]), info("y", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(
        [node(f"F{depth - 1}", ["x"], ["y"], domain="own")], "main", [given], [gives]
    )
    onnx.save(
        helper.make_model(graph, functions=made, opset_imports=opsets, ir_version=8), str(path)
    )
    return path
