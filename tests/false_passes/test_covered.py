"""What an operator keeps back on all that was run is not the same for that in two files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.flows.compare import compare
from exporter.report.two_files import TwoFiles
from tests.false_passes.way import Told, way

Nodes = list[onnx.NodeProto]
Weights = dict[str, np.ndarray]
DEAD = 3
"""The unit that is far below zero whatever goes in."""


def _weights(bias: float = -50.0, scale: float = 1.0) -> Weights:
    random = np.random.default_rng(3)
    found = {
        "w0": scale * random.standard_normal((8, 8)),
        "b0": scale * 0.1 * random.standard_normal(8),
        "w1": random.standard_normal((8, 8)),
        "zero": np.array(0.0),
        "three": np.array(3.0 * scale),
        "undo": np.array(1 / scale),
    }
    found["b0"][DEAD] = scale * bias
    return {name: array.astype(np.float32) for name, array in found.items()}


def _file(path: Path, middle: Nodes, weights: Weights) -> Path:
    """x [1, 64, 8] -> linear ``v`` -> ``middle`` to ``r`` -> linear -> y."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w0"], ["m"]),
        node("Add", ["m", "b0"], ["v"]),
        *middle,
        node("MatMul", ["r", "w1"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, 8])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _relu() -> Nodes:
    return [helper.make_node("Relu", ["v"], ["r"])]


def _clip() -> Nodes:
    return [helper.make_node("Clip", ["v", "zero", "three"], ["r"])]


def _maximum() -> Nodes:
    return [helper.make_node("Max", ["zero", "v"], ["r"])]


def _added() -> Nodes:
    """What is kept back is two nodes in front."""
    return [
        helper.make_node("Add", ["v", "undo"], ["s"]),
        helper.make_node("Relu", ["s"], ["r"]),
    ]


_POOL = {"kernel_shape": [3], "strides": [1], "pads": [1, 1]}


def _pooled_first() -> Nodes:
    return [
        helper.make_node("MaxPool", ["v"], ["p"], **_POOL),
        helper.make_node("Relu", ["p"], ["r"]),
    ]


def _pooled_last() -> Nodes:
    return [
        helper.make_node("Relu", ["v"], ["p"]),
        helper.make_node("MaxPool", ["p"], ["r"], **_POOL),
    ]


def _compared(folder: Path, middle: Callable[[], Nodes], bias: float) -> TwoFiles:
    truth = _file(folder / "truth.onnx", middle(), _weights())
    report = compare(truth, _file(folder / "other.onnx", middle(), _weights(bias)))
    assert all(row.verdict == "pass" for row in report.outputs), "nothing of it comes out"
    return report


def _told(report: TwoFiles) -> Told:
    return Told(exit_code=report.exit_code, text=report.headline)


@pytest.mark.parametrize("middle", [_relu, _clip, _maximum, _added, _pooled_first])
def test_any_operator_that_keeps_numbers_back(tmp_path: Path, middle: Callable[[], Nodes]):
    report = _compared(tmp_path, middle, bias=-40.0)
    assert report.verdict == "ambiguous", report.headline
    assert report.exit_code == 1
    assert any("keeps back" in line for line in report.not_checked)
    assert _compared(tmp_path, middle, bias=-50.0).exit_code == 0


@way("the bias of a unit that is never above zero is wrong", says="what Relu keeps back of 'v'")
def test_a_dead_unit_with_a_wrong_bias(tmp_path: Path) -> Told:
    return _told(_compared(tmp_path, _relu, bias=-40.0))


def _fused(folder: Path, bias: float, frames: int = 38) -> tuple[Path, Path]:
    """A convolution with its Relu behind it, and the same in one node of onnxruntime's."""
    random = np.random.default_rng(4)
    kernel = random.standard_normal((8, 4, 3)).astype(np.float32)
    offset = (0.1 * random.standard_normal(8)).astype(np.float32)
    paths = []
    for number, name in ((-50.0, "truth"), (bias, "other")):
        offset[DEAD] = number
        fused = {"activation": "Relu", "domain": "com.microsoft"} if name == "other" else {}
        made = "FusedConv" if fused else "Conv"
        reads = ["x", "kernel", "offset"]
        nodes = [helper.make_node(made, reads, ["y" if fused else "c"], **fused)]
        if not fused:
            nodes.append(helper.make_node("Relu", ["c"], ["y"]))
        graph = helper.make_graph(
            nodes,
            "main",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, frames + 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, frames])],
            [
                numpy_helper.from_array(kernel, "kernel"),
                numpy_helper.from_array(offset.copy(), "offset"),
            ],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        paths.append(folder / f"{name}.onnx")
        onnx.save(model, paths[-1])
    return paths[0], paths[1]


@way("a wrong bias is inside of a fused node, below zero", says="what Relu keeps back of 'c'")
def test_a_dead_channel_in_a_fused_node(tmp_path: Path) -> Told:
    return _told(compare(*_fused(tmp_path, bias=-40.0)))


@pytest.mark.parametrize("frames", [38, 1])
def test_a_healthy_fused_node_passes(tmp_path: Path, frames: int):
    """In a row of one element there is nothing beside what float32 leaves of nearly nought."""
    report = compare(*_fused(tmp_path, bias=-50.0, frames=frames))
    assert report.exit_code == 0, report.headline


def test_the_same_function_in_another_order_passes(tmp_path: Path):
    """The largest of what is above zero, and what is above zero of the largest."""
    truth = _file(tmp_path / "truth.onnx", _pooled_first(), _weights())
    report = compare(truth, _file(tmp_path / "other.onnx", _pooled_last(), _weights()))
    assert report.exit_code == 0, report.headline


def test_the_same_function_at_another_scale_passes(tmp_path: Path):
    """Twice as large in front of the operator, and halved behind it: one value has no partner."""
    truth = _file(tmp_path / "truth.onnx", _clip(), _weights())
    doubled = [
        helper.make_node("Clip", ["v", "zero", "three"], ["d"]),
        helper.make_node("Mul", ["d", "undo"], ["r"]),
    ]
    report = compare(truth, _file(tmp_path / "other.onnx", doubled, _weights(scale=2.0)))
    assert report.alone, "not the case that is meant"
    assert report.exit_code == 0, report.headline
