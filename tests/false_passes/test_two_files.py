"""Two files that decide alike on the inputs at hand are not one function for that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.flows.compare import CompareOptions, compare
from exporter.graph.index import index_graph
from exporter.joining.digests import one_language
from exporter.report.two_files import TwoFiles
from tests.false_passes.way import Told, way

_LAYERS = 4


def _tokens(path: Path, wrong: tuple[int, ...] = ()) -> Path:
    """x [1, frames, 8] -> four layers -> tokens [1, frames]; ``wrong``: layers with one weight off.

    Behind the last product there is no weight by which it could be known.
    """
    random = np.random.default_rng(3)
    nodes, weights, at = [], [], "x"
    for layer in range(_LAYERS):
        weight = random.standard_normal((8, 8)).astype(np.float32)
        weight[:, 2 * layer] *= 4
        bias = (0.1 * random.standard_normal(8)).astype(np.float32)
        if layer in wrong:
            weight[1, 7 - layer] += 1e-3
        weights += [numpy_helper.from_array(weight, f"w{layer}")]
        weights += [numpy_helper.from_array(bias, f"b{layer}")]
        nodes.append(helper.make_node("MatMul", [at, f"w{layer}"], [f"m{layer}"]))
        at = f"m{layer}"
        if layer < _LAYERS - 1:
            nodes.append(helper.make_node("Add", [at, f"b{layer}"], [f"a{layer}"]))
            at = f"a{layer}"
        nodes.append(helper.make_node("Tanh", [at], [f"t{layer}"]))
        at = f"t{layer}"
    nodes.append(helper.make_node("ArgMax", [at], ["tokens"], axis=-1, keepdims=0))
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "frames", 8])],
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "frames"])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _compared(folder: Path, wrong: tuple[int, ...]) -> TwoFiles:
    case = folder / "case.npz"
    folder.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(1).standard_normal((1, 6, 8)).astype(np.float32)
    np.savez(case, x=x)
    truth, other = _tokens(folder / "truth.onnx"), _tokens(folder / "other.onnx", wrong)
    report = compare(truth, other, CompareOptions(case=case))
    assert all(row.verdict == "pass" for row in report.outputs), "the tokens are equal"
    return report


@way("a weight is wrong, and the tokens are the same", says="weight 'w1'")
def test_equal_tokens_vouch_for_no_weight(tmp_path: Path) -> Told:
    report = _compared(tmp_path, wrong=(1,))
    assert report.first is not None and report.first.actual == "m1"
    return Told(exit_code=report.exit_code, text=report.headline)


@way("a weight of the last layer is wrong, no value there is found", says="only decisions")
def test_what_is_not_found_in_front_of_a_decision_leaves_the_verdict_open(tmp_path: Path) -> Told:
    report = _compared(tmp_path, wrong=(_LAYERS - 1,))
    text = " ".join([report.headline, *report.not_checked])
    return Told(exit_code=report.exit_code, text=text)


def test_the_same_file_passes(tmp_path: Path):
    report = _compared(tmp_path, wrong=())
    assert report.exit_code == 0, report.headline
    assert not report.alone and not report.ambiguous


def test_what_no_output_depends_on_leaves_nothing_open(tmp_path: Path):
    truth, other = _tokens(tmp_path / "truth.onnx"), tmp_path / "other.onnx"
    model = onnx.load(truth)
    model.graph.node.insert(1, helper.make_node("Sigmoid", ["m0"], ["dead"]))
    onnx.save(model, other)
    report = compare(truth, other)
    assert report.exit_code == 0, report.headline
    assert all(row.actual != "dead" for row in report.values)


@pytest.mark.parametrize("name", ["", "ai.onnx"])
def test_the_same_nodes_of_another_opset_are_not_taken_for_the_same(tmp_path: Path, name: str):
    model = onnx.load(_tokens(tmp_path / "truth.onnx"))
    left = index_graph(onnx.load(tmp_path / "truth.onnx"), tmp_path)
    model.opset_import[0].domain = name
    assert one_language(left, index_graph(model, tmp_path))
    model.opset_import[0].version -= 1
    assert not one_language(left, index_graph(model, tmp_path))
