"""Look-ups over a graph: constants, readers inside of subgraphs, weights of every storage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.graph.index import index_graph
from exporter.graph.onnx_file import read_model
from tests.support.files import write_model


def graph_with(nodes: list[onnx.NodeProto], **tensors: np.ndarray) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("value_float", 1.5, np.float32(1.5)),
        ("value_floats", [1.0, 2.0], np.array([1, 2], np.float32)),
        ("value_int", 7, np.int64(7)),
        ("value_ints", [3, 4], np.array([3, 4])),
        ("value", numpy_helper.from_array(np.array([True])), np.array([True])),
        ("value_string", "word", np.array([b"word"], object)),
    ],
)
def test_a_constant_node_is_an_initialiser(attribute: str, value: object, expected: np.ndarray):
    nodes = [
        helper.make_node("Constant", [], ["c"], **{attribute: value}),
        helper.make_node("Identity", ["c"], ["y"]),
    ]
    graph = index_graph(graph_with(nodes), Path())
    found = graph.array("c")
    assert [node.op_type for node in graph.nodes] == ["Identity"]
    assert "c" not in graph.producer
    if found.dtype != object:
        assert found.dtype == np.asarray(expected).dtype
        assert np.array_equal(found, expected)


def test_a_value_that_only_a_branch_reads_has_a_reader():
    branch = helper.make_graph(
        [helper.make_node("Add", ["outer", "w"], ["r"])],
        "branch",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(1, np.float32), "w")],
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["outer"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
    ]
    graph = index_graph(graph_with(nodes, yes=np.array(True)), Path())
    assert graph.consumers["outer"] == (1,)
    assert "w" not in graph.consumers  # the branch's own
    assert graph.reads[1] == ("yes", "outer")


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "bool", "float64", "int64"])
def test_weights_are_read_wherever_they_lie(tmp_path: Path, dtype: str, external: bool):
    weight = np.arange(4096).reshape(64, 64).astype(dtype)
    small = np.array([1.5, 2.5], np.float32)
    model = graph_with([helper.make_node("Relu", ["x"], ["y"])], weight=weight, small=small)
    write_model(model, tmp_path / "m.onnx", external_data=external, metadata={})
    assert (tmp_path / "m.onnx.data").exists() is external
    graph = index_graph(read_model(tmp_path / "m.onnx"), tmp_path)
    assert np.array_equal(graph.array("weight"), weight)
    assert graph.array("weight").dtype == weight.dtype
    assert np.array_equal(graph.array("small"), small)


def test_inputs_that_have_a_default_value_are_weights():
    model = graph_with([helper.make_node("Add", ["x", "w"], ["y"])], w=np.ones(1, np.float32))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]))
    assert index_graph(model, Path()).inputs == ("x",)


def test_a_constant_of_somebody_elses_operator_set_is_no_constant():
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    nodes = [
        helper.make_node("Constant", ["x"], ["held"], domain="theirs"),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Add", ["held", "one"], ["y"]),
    ]
    graph = index_graph(helper.make_model(helper.make_graph(nodes, "net", [given], [made])), Path())
    assert [node.op_type for node in graph.nodes] == ["Constant", "Add"]
    assert list(graph.initializers) == ["one"]
