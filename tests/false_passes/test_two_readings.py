"""One file, two readings: what onnxruntime runs is another model than the one that was compared.

Each file here is tried with every command that reads one. ``healthy`` shows that the same file
without the second reading is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter import cli
from exporter.core.errors import ArtifactError
from exporter.golden.store import write_golden
from exporter.graph.contents import read_contents
from exporter.graph.onnx_file import open_artifact, open_graph, read_in_place, read_model
from exporter.graph.wire import delimited, fields
from tests.false_passes.way import Told, way
from tests.golden import made

READERS = (read_model, open_artifact, open_graph, read_in_place, read_contents)
LARGE = 1 << 15
"""Elements from which a reader leaves a weight where it lies."""

Change = Callable[[onnx.ModelProto], object]


def told(folder: Path, change: Change | None, *, content: bytes | None = None) -> Told:
    """What ``golden check`` and ``inspect`` say of a file; every reader must refuse it alike."""
    pipeline = made.pipeline(folder)
    write_golden(made.golden(folder, pipeline), folder / "golden" / "made")
    model = made.model()
    if change is not None:
        change(model)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString() if content is None else content)
    said = {_said(reader, path) for reader in READERS}
    assert len(said) == 1, said
    golden = ["golden", "check", str(folder / "made.yaml"), "--onnx", str(path), "--quiet"]
    golden += ["--golden-dir", str(folder / "golden"), "--output-dir", str(folder / "out")]
    assert cli.main(["inspect", "--quiet", str(path)]) == (2 if "".join(said) else 0)
    return Told(exit_code=cli.main(golden), text="".join(said))


def _said(reader: Callable[[Path], object], path: Path) -> str:
    try:
        reader(path)
    except ArtifactError as error:
        assert error.remedy
        return str(error)
    return ""


def tensor(name: str, value: float, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.full(shape or (1,), value, np.float32), name)


@pytest.mark.parametrize("large", [False, True])
def test_a_healthy_file_is_taken(tmp_path: Path, large: bool):
    def add(model: onnx.ModelProto) -> None:
        if large:
            model.graph.initializer.append(tensor("spare", 1.0, LARGE))

    assert told(tmp_path, add) == Told(exit_code=0, text="")


@pytest.mark.parametrize("size", [1, LARGE])
@way("an initialiser stands twice: one program reads the first, onnxruntime the last", says="'W2'")
def test_initializer_twice(tmp_path: Path, size: int) -> Told:
    def again(model: onnx.ModelProto) -> None:
        changed = numpy_helper.to_array(model.graph.initializer[1]).copy()
        changed[0] *= -1
        model.graph.initializer.append(numpy_helper.from_array(changed, "W2"))
        model.graph.initializer.append(tensor("spare", 1.0, size))

    return told(tmp_path, again)


@way("a second initialiser comes in a second part of the graph, which protobuf merges", says="'W2'")
def test_initializer_twice_on_the_wire(tmp_path: Path) -> Told:
    more = onnx.GraphProto()
    more.initializer.append(tensor("W2", 0.0, 96, 50))
    content = made.model().SerializeToString() + delimited(7, more.SerializeToString())
    return told(tmp_path, None, content=content)


@way("a sparse initialiser has the name of a dense one", says="'W2' stands there twice")
def test_sparse_and_dense(tmp_path: Path) -> Told:
    def again(model: onnx.ModelProto) -> None:
        places = numpy_helper.from_array(np.array([0], np.int64))
        values = numpy_helper.from_array(np.array([7.0], np.float32), "W2")
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [96, 50]))

    return told(tmp_path, again)


@way("two nodes make one value", says="'active' is made by two nodes")
def test_value_made_twice(tmp_path: Path) -> Told:
    def again(model: onnx.ModelProto) -> None:
        model.graph.node.insert(2, helper.make_node("Neg", ["hidden"], ["active"]))

    return told(tmp_path, again)


@way("a node makes what is an input of the graph", says="'x' is an input, and made by")
def test_input_is_made(tmp_path: Path) -> Told:
    return told(tmp_path, lambda m: m.graph.node.insert(0, helper.make_node("Neg", ["x"], ["x"])))


@way("an initialiser has the name of a node's result", says="'hidden' is an initializer, and made")
def test_initializer_over_a_result(tmp_path: Path) -> Told:
    return told(tmp_path, lambda m: m.graph.initializer.append(tensor("hidden", 0.0, 40, 96)))


@way("an output is declared twice, with two types", says="output 'scores' stands there twice")
def test_output_twice(tmp_path: Path) -> Told:
    value = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [40, 50])
    return told(tmp_path, lambda m: m.graph.output.append(value))


@way("an input is declared twice, with two shapes", says="input 'x' stands there twice")
def test_input_twice(tmp_path: Path) -> Told:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [40, 64])
    return told(tmp_path, lambda m: m.graph.input.append(value))


@way("a node has an attribute twice", says="attribute 'axis' twice")
def test_attribute_twice(tmp_path: Path) -> Told:
    again = helper.make_attribute("axis", 0)
    return told(tmp_path, lambda m: m.graph.node[3].attribute.append(again))


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
@way("two opsets of one domain", says="opset 11 and 18 of 'ai.onnx' at once")
def test_two_opsets(tmp_path: Path, domain: str) -> Told:
    return told(tmp_path, lambda m: m.opset_import.append(helper.make_opsetid(domain, 11)))


@way("metadata says two things under one key", says="metadata entry 'export_verify.pipeline'")
def test_metadata_twice(tmp_path: Path) -> Told:
    def again(model: onnx.ModelProto) -> None:
        for text in ("made", "another"):
            model.metadata_props.add(key="export_verify.pipeline", value=text)

    return told(tmp_path, again)


@pytest.mark.parametrize("size", [96 * 50, LARGE])
@way("a weight's values stand in the file in two forms", says="stand in float_data and in raw_data")
def test_values_in_two_forms(tmp_path: Path, size: int) -> Told:
    def again(model: onnx.ModelProto) -> None:
        weight = tensor("spare", 1.0, size)
        weight.float_data.extend([0.0] * size)
        model.graph.initializer.append(weight)

    return told(tmp_path, again)


@way("a weight lies in the file and in external data", says="in raw_data and in external_data")
def test_values_inside_and_outside(tmp_path: Path) -> Told:
    def again(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[1]
        (tmp_path / "w.data").write_bytes(bytes(len(weight.raw_data)))
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "w.data"), ("length", str(len(weight.raw_data)))):
            weight.external_data.add(key=key, value=value)

    return told(tmp_path, again)


@way("external data has two places", says="says twice: location")
def test_two_places_of_external_data(tmp_path: Path) -> Told:
    def again(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[1]
        for name in ("a.data", "b.data"):
            (tmp_path / name).write_bytes(weight.raw_data)
            weight.external_data.add(key="location", value=name)
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL

    return told(tmp_path, again)


@way("a Constant holds two values", says="holds 2 values for 1 outputs")
def test_constant_with_two_values(tmp_path: Path) -> Told:
    def again(model: onnx.ModelProto) -> None:
        node = helper.make_node("Constant", [], ["c"], value_float=3.0, value_int=5)
        model.graph.node.insert(0, node)

    return told(tmp_path, again)


def branches(name: str, *, stored: bool) -> onnx.NodeProto:
    """An If whose first branch gives ``name`` a meaning of its own."""
    made_there = [] if stored else [helper.make_node("Neg", ["hidden"], [name])]
    held = [tensor(name, 5.0, 1)] if stored else []
    value = helper.make_tensor_value_info("left", TensorProto.FLOAT, None)
    other = helper.make_tensor_value_info("right", TensorProto.FLOAT, None)
    left = [*made_there, helper.make_node("Add", ["hidden", name], ["left"])]
    right = [helper.make_node("Relu", ["hidden"], ["right"])]
    return helper.make_node(
        "If",
        ["yes"],
        ["active"],
        then_branch=helper.make_graph(left, "then", [], [value], held),
        else_branch=helper.make_graph(right, "else", [], [other]),
    )


@pytest.mark.parametrize("stored", [False, True])
@way("a subgraph hides a value around it", says="has the name of a value around it")
def test_hidden_in_a_subgraph(tmp_path: Path, stored: bool) -> Told:
    def hide(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        model.graph.node[1].CopyFrom(branches("x", stored=stored))

    return told(tmp_path, hide)


def test_branches_that_use_the_same_names_are_healthy(tmp_path: Path):
    def same(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        node = branches("own", stored=False)
        node.attribute[1].g.CopyFrom(node.attribute[0].g)
        model.graph.node[1].CopyFrom(node)

    model = made.model()
    same(model)
    path = made.write_onnx(tmp_path, model)
    assert {_said(reader, path) for reader in READERS} == {""}


def function(op: str, name: str = "act", domain: str = "own") -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    node = helper.make_node(op, ["a"], ["b"], domain="own" if op == name else "")
    return helper.make_function(domain, name, ["a"], ["b"], [node], imports)


def calling(model: onnx.ModelProto, *functions: onnx.FunctionProto) -> None:
    model.functions.extend(functions)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[1].CopyFrom(helper.make_node("act", ["hidden"], ["active"], domain="own"))


@way("a function is defined twice", says="function 'own::act' stands there twice")
def test_function_twice(tmp_path: Path) -> Told:
    return told(tmp_path, lambda m: calling(m, function("Relu"), function("Neg")))


@way("a function has the name of an operator of ONNX", says="has the name of an operator of ONNX")
def test_function_named_as_an_operator(tmp_path: Path) -> Told:
    return told(tmp_path, lambda m: m.functions.append(function("Neg", "Relu", "")))


@way("a function calls itself", says="calls itself, so it never ends")
def test_function_that_calls_itself(tmp_path: Path) -> Told:
    return told(tmp_path, lambda m: calling(m, function("act")))


@way("nodes stand behind those that read them", says="reads 'hidden' before it is made")
def test_nodes_out_of_order(tmp_path: Path) -> Told:
    def swap(model: onnx.ModelProto) -> None:
        first = onnx.NodeProto()
        first.CopyFrom(model.graph.node[0])
        del model.graph.node[0]
        model.graph.node.append(first)

    return told(tmp_path, swap)


def test_a_field_that_comes_twice_on_the_wire_is_read_alike(tmp_path: Path):
    """Protobuf takes the last one; so does every reader here, and onnxruntime."""
    weight = tensor("W2", 1.0, 96, 50)
    other = numpy_helper.from_array(np.full((96, 50), 2.0, np.float32)).raw_data
    twice = delimited(5, weight.SerializeToString() + delimited(9, other))
    content = made.model().SerializeToString()
    (graph,) = (f for f in fields(content, 0, len(content)) if f.number == 7)
    body = content[graph.start : graph.end]
    kept = b"".join(
        body[f.begin : f.end]
        for f in fields(body, 0, len(body))
        if not (f.number == 5 and b"W2" in body[f.start : f.start + 40])
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: graph.begin] + delimited(7, kept + twice) + content[graph.end :])
    from exporter.execution.onnx_runs import FileRun

    x = np.ones((1, 64), np.float32)
    hidden = np.maximum(x @ made.weights()[0], 0)
    wanted = hidden @ np.full((96, 50), 2.0, np.float32)
    np.testing.assert_allclose(FileRun(path).run({"x": x})["scores"], wanted, rtol=1e-4)
    assert (open_graph(path).array("W2") == 2.0).all()
