"""Weights of branches, constants and attributes that lie in another file, as all weights may."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.flows.compare import compare
from exporter.graph.onnx_file import open_graph
from exporter.joining.alike import same_graph
from tests.support.small_files import save


def beside(tensor: TensorProto, folder: Path) -> None:
    """Move the bytes of a tensor into a file."""
    (folder / "w.bin").write_bytes(b"1234" + tensor.raw_data)
    length = str(len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "4"), ("length", length)):
        tensor.external_data.add(key=key, value=value)


def held(scale: float = 1.0) -> TensorProto:
    return numpy_helper.from_array(np.arange(1, 5, dtype=np.float32) * np.float32(scale), "held")


def in_a_branch(scale: float) -> list[onnx.NodeProto]:
    """y = x + (one of two branches, which hold the same weight)."""
    outs = [helper.make_tensor_value_info("b", 1, [4])]
    nodes = [helper.make_node("Identity", ["held"], ["b"])]
    graph = helper.make_graph(nodes, "branch", [], outs, [held(scale)])
    branch = helper.make_node("If", ["go"], ["c"], then_branch=graph, else_branch=graph)
    return [branch, helper.make_node("Add", ["x", "c"], ["y"])]


def in_a_constant(scale: float) -> list[onnx.NodeProto]:
    outs = [helper.make_tensor_value_info("b", 1, [4])]
    nodes = [helper.make_node("Constant", [], ["b"], value=held(scale))]
    graph = helper.make_graph(nodes, "branch", [], outs)
    branch = helper.make_node("If", ["go"], ["c"], then_branch=graph, else_branch=graph)
    return [branch, helper.make_node("Add", ["x", "c"], ["y"])]


def in_an_attribute(scale: float) -> list[onnx.NodeProto]:
    value = numpy_helper.from_array(np.array([3 * scale], np.float32), "value")
    made = helper.make_node("ConstantOfShape", ["size"], ["c"], value=value)
    return [made, helper.make_node("Add", ["x", "c"], ["y"])]


def file(folder: Path, nodes: list[onnx.NodeProto], *, moved: bool = False) -> Path:
    """A stranger's file of these nodes; ``moved``: its inner tensors lie beside it."""
    folder.mkdir(exist_ok=True)
    weights = {"go": np.array(True), "size": np.array([4])}
    path = save(folder / "model.onnx", nodes, {"x": (1, ["n", 4])}, ["y"], weights)
    model = onnx.load(path)
    attributes = [a for node in model.graph.node for a in node.attribute]
    graphs = [a.g for a in attributes if a.HasField("g")]
    tensors = [a.t for a in attributes if a.HasField("t")]
    tensors += [tensor for graph in graphs for tensor in graph.initializer]
    tensors += [a.t for g in graphs for n in g.node for a in n.attribute if a.HasField("t")]
    for tensor in tensors if moved else []:
        beside(tensor, folder)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("make", [in_a_branch, in_a_constant, in_an_attribute])
def test_a_file_is_compared_wherever_its_weights_lie(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[float], list[onnx.NodeProto]],
):
    # As in the command's own child, where no other is started.
    monkeypatch.setattr("exporter.core.children._GUARDED", [True])
    whole = file(tmp_path / "whole", make(1.0))
    other = file(tmp_path / "other", make(1.0), moved=True)
    wrong = file(tmp_path / "wrong", make(1.5), moved=True)
    assert compare(whole, other).exit_code == 0
    assert compare(other, whole).exit_code == 0
    assert compare(whole, wrong).exit_code == 1


@pytest.mark.parametrize("make", [in_a_branch, in_a_constant, in_an_attribute])
def test_two_files_beside_of_one_name_are_not_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[float], list[onnx.NodeProto]],
):
    # Both say the same of where their weights lie.
    monkeypatch.setattr("exporter.core.children._GUARDED", [True])
    left = file(tmp_path / "left", make(1.0), moved=True)
    copy = file(tmp_path / "copy", make(1.0), moved=True)
    right = file(tmp_path / "right", make(1.5), moved=True)
    assert compare(left, copy).headline.startswith("same function, same graph")
    assert not same_graph(open_graph(left), open_graph(right), {"x": "x"})
    (row,) = compare(left, right).values
    assert row.verdict == "fail" and row.local == "fail"
