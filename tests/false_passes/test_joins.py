"""Passes that were not earned: names in a file that stand for other values than they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporter.report.schema import Report
from tests.false_passes.way import Told, way
from tests.support.optimised import Run, folded, stripped


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("joins"))


def told(report: Report) -> Told:
    names = ", ".join(culprit.layer for culprit in report.culprits)
    return Told(exit_code=report.exit_code, text=f"{report.headline} [{names}]")


def node_of(model: onnx.ModelProto, value: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if value in node.output)


def insert_behind(model: onnx.ModelProto, value: str, *nodes: onnx.NodeProto) -> None:
    at = list(model.graph.node).index(node_of(model, value)) + 1
    for offset, node in enumerate(nodes):
        model.graph.node.insert(at + offset, node)


def rename_output(model: onnx.ModelProto, value: str, other: str) -> None:
    node = node_of(model, value)
    node.output[:] = [other if name == value else name for name in node.output]


def constant(model: onnx.ModelProto, name: str, values: object) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def beside_the_way(model: onnx.ModelProto) -> None:
    """The right value under the right name, and a wrong one where it is read."""
    users = [node for node in model.graph.node if "softmax_1" in node.input]
    two = constant(model, "wrong", np.float32(1.01))
    insert_behind(model, "softmax_1", helper.make_node("Mul", ["softmax_1", two], ["read"]))
    for user in users:
        user.input[:] = ["read" if name == "softmax_1" else name for name in user.input]


@way(
    "the right value under a layer's name, and another one read behind it",
    says="model.blocks.1",
)
def test_a_right_value_beside_the_way(run: Run) -> Told:
    return told(run.verify(run.changed(beside_the_way)))


@way(
    "the same without any metadata, where names may be doubted",
    says="model.blocks.1",
)
def test_a_right_value_beside_the_way_without_metadata(run: Run) -> Told:
    path = run.through(stripped, run.changed(beside_the_way))
    return told(run.verify(path, on_purpose=False))


@way("a twin layer's value under a layer's name: query and key exchanged", says="model.blocks.0")
def test_twins_exchanged(run: Run) -> Told:
    def exchange(model: onnx.ModelProto) -> None:
        """Each is read where the other one should be."""
        names = {"linear": "linear_1", "linear_1": "linear"}
        for node in model.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]

    return told(run.verify(run.changed(exchange)))


def near_twin(model: onnx.ModelProto) -> None:
    """The second block's query has weights that differ by a thousandth."""
    node = node_of(model, "linear_5")
    scale = constant(model, "near", np.float32(1.001))
    rename_output(model, "linear_5", "before")
    insert_behind(model, "before", helper.make_node("Mul", ["before", scale], ["linear_5"]))
    assert node.output[0] == "before" or "before" in node.output


@way("a layer's value that is nearly right, beside layers that were folded", says="blocks.1.q")
def test_a_near_value_beside_folded_layers(run: Run) -> Told:
    return told(run.verify(run.through(folded, run.changed(near_twin))))


def turned(perm: list[int], value: str, *, back: bool) -> Callable[[onnx.ModelProto], None]:
    """Hold a value transposed under its name; ``back``: whoever reads it turns it back."""

    def change(model: onnx.ModelProto) -> None:
        users = [node for node in model.graph.node if value in node.input]
        rename_output(model, value, "straight")
        made = [helper.make_node("Transpose", ["straight"], [value], perm=perm)]
        if back:
            made.append(helper.make_node("Transpose", [value], ["back"], perm=perm))
        insert_behind(model, "straight", *made)
        for user in users if back else ():
            user.input[:] = ["back" if name == value else name for name in user.input]

    return change


@way("attention weights, a square, held transposed and read so", says="softmax")
def test_a_square_transpose(run: Run) -> Told:
    return told(run.verify(run.changed(turned([0, 2, 1], "softmax", back=False))))


@way("a value held transposed under its name, though it is turned back", says="shape change")
def test_a_transpose_is_no_reshape(run: Run) -> Told:
    """Nobody gets a wrong number, and a tap that could not be compared is no tap that agrees."""
    return told(run.verify(run.changed(turned([1, 0, 2], "linear", back=True)), on_purpose=False))


@way("rows of a value in another order, in a shape that could be the value's", says="linear")
def test_rows_in_another_order(run: Run) -> Told:
    def change(model: onnx.ModelProto) -> None:
        """``[batch, frames, 16]`` as ``[frames * batch, 16]``; read as if it were in order."""
        users = [node for node in model.graph.node if "linear_3" in node.input]
        rename_output(model, "linear_3", "straight")
        shape = constant(model, "rows", np.array([-1, 32], np.int64))
        insert_behind(
            model,
            "straight",
            helper.make_node("Transpose", ["straight"], ["turned"], perm=[1, 0, 2]),
            helper.make_node("Reshape", ["turned", shape], ["linear_3"]),
            helper.make_node("Shape", ["straight"], ["sizes"]),
            helper.make_node("Reshape", ["linear_3", "sizes"], ["read"]),
        )
        for user in users:
            user.input[:] = ["read" if name == "linear_3" else name for name in user.input]

    return told(run.verify(run.changed(change)))


@way("the names of all layers on values that are computed for nobody", says="y")
def test_names_on_a_dead_branch(run: Run) -> Told:
    """A right copy of the model carries the names; the outputs come from a wrong one."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        wrong = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
        inside = {name for node in wrong for name in node.output}
        for node in wrong:
            node.name = f"{node.name}_wrong"
            node.input[:] = [f"{n}_wrong" if n in inside else n for n in node.input]
            node.output[:] = ["y" if n == "y" else f"{n}_wrong" for n in node.output]
        first = next(node for node in wrong if node.op_type == "LayerNormalization")
        next(a for a in first.attribute if a.name == "epsilon").f = 1e-2
        rename_output(model, "y", "y_right")
        graph.node.extend(wrong)

    return told(run.verify(run.changed(change)))
