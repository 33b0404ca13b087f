"""What a tensor of a file says of its values is true, wherever the tensor stands."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.core.errors import ArtifactError
from exporter.flows.inspect import inspect
from exporter.graph.onnx_file import open_artifact, open_graph, read_model
from exporter.graph.stored_tensors import unknown_type
from tests.golden import made

READERS = (read_model, open_graph, inspect)
Edit = Callable[[onnx.ModelProto, TensorProto, Path], None]


def weight(model: onnx.ModelProto) -> TensorProto:
    return model.graph.initializer[0]


def in_constant(model: onnx.ModelProto) -> TensorProto:
    held = numpy_helper.from_array(np.ones(6, np.float32), "held")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["extra"], value=held))
    return model.graph.node[0].attribute[0].t


def in_subgraph(model: onnx.ModelProto) -> TensorProto:
    node = helper.make_node("Identity", ["held"], ["inner"])
    held = numpy_helper.from_array(np.ones(6, np.float32), "held")
    result = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [6])
    body = helper.make_graph([node], "body", [], [result], [held])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    made_if = helper.make_node("If", ["yes"], ["chosen"], then_branch=body, else_branch=body)
    model.graph.node.insert(0, made_if)
    return model.graph.node[0].attribute[0].g.initializer[0]


PLACES = (weight, in_constant, in_subgraph)


def outside(name: str, **entries: str) -> Edit:
    def edit(_: onnx.ModelProto, tensor: TensorProto, folder: Path) -> None:
        (folder / "w.bin").write_bytes(tensor.raw_data)
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": name, "length": str(size), **entries}.items():
            tensor.external_data.add(key=key, value=value)

    return edit


def typed(field: str, count: int) -> Edit:
    def edit(_: onnx.ModelProto, tensor: TensorProto, __: Path) -> None:
        tensor.ClearField("raw_data")
        getattr(tensor, field).extend([1] * count)

    return edit


def other_type(kind: int) -> Edit:
    return lambda _, tensor, __: setattr(tensor, "data_type", kind)


def other_dims(*dims: int) -> Edit:
    def edit(_: onnx.ModelProto, tensor: TensorProto, __: Path) -> None:
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return edit


BROKEN: dict[str, Edit] = {
    "another type": other_type(TensorProto.DOUBLE),
    "packed": other_type(TensorProto.INT4),
    "no type": other_type(0),
    "unknown type": other_type(99),
    "strings": other_type(TensorProto.STRING),
    "too large": other_dims(1 << 40, 1 << 40),
    "negative": other_dims(-1, 5),
    "empty along one axis, too large along another": other_dims(0, 1 << 62),
    "another size": other_dims(5),
    "no value": lambda _, tensor, __: tensor.ClearField("raw_data"),
    "cut off": lambda _, tensor, __: setattr(tensor, "raw_data", tensor.raw_data[:-1]),
    "typed, too few": typed("float_data", 3),
    "typed, another field": typed("int64_data", 6),
    "missing": outside("absent.bin"),
    "a folder": outside("sub"),
    "a loop": outside("loop"),
    "a pipe": outside("pipe"),
    "a device": outside("device"),
    "escapes": outside("../w.bin"),
    "escapes by a link": outside("escape"),
    "absolute": outside("/etc/passwd"),
    "long": outside("x" * 5000),
    "nul": outside("a\0b"),
    "empty": outside(""),
    "no number": outside("w.bin", offset="x"),
    "not an ASCII number": outside("w.bin", offset="٣"),
    "negative offset": outside("w.bin", offset="-1"),
    "beyond its end": outside("w.bin", offset="4"),
    "endless digits": outside("w.bin", offset="9" * 5000),
    "another length": outside("w.bin", length="3"),
}


def written(folder: Path, model: onnx.ModelProto) -> Path:
    (folder / "sub").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "escape").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    return made.write_onnx(folder, model)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", BROKEN)
def test_every_reader_says_so(tmp_path: Path, place, name):
    model = made.model()
    BROKEN[name](model, place(model), tmp_path)
    path = written(tmp_path, model)
    for read in READERS:
        with pytest.raises(ArtifactError) as told:
            read(path)
        assert str(path) in str(told.value)


@pytest.mark.parametrize("place", PLACES)
def test_values_beside_a_healthy_file_are_read(tmp_path: Path, place):
    model = made.model()
    tensor = place(model)
    outside("w.bin")(model, tensor, tmp_path)
    path = written(tmp_path, model)
    for read in READERS:
        read(path)
    assert list(open_artifact(path)[0].external) == ["w.bin"]


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT2, TensorProto.FLOAT8E5M2])
@pytest.mark.parametrize("raw", [True, False])
def test_values_that_share_a_byte_are_counted_as_they_are_stored(tmp_path: Path, kind, raw):
    model = made.model()
    array = np.zeros(7, helper.tensor_dtype_to_np_dtype(kind))
    tensor = helper.make_tensor("small", kind, [7], array, raw=raw)
    model.graph.initializer.append(tensor)
    for read in READERS:
        read(made.write_onnx(tmp_path, model))


@pytest.mark.parametrize("kind", ["reads", "gives", "deeper"])
def test_a_name_that_nothing_makes_is_said(tmp_path: Path, kind):
    model = made.model()
    if kind == "reads":
        model.graph.node[0].input[1] = "lost"
    elif kind == "gives":
        model.graph.output.add(name="lost")
    else:
        in_subgraph(model)
        model.graph.node[0].attribute[0].g.node[0].input[0] = "lost"
    with pytest.raises(ArtifactError, match="lost.*nothing makes it"):
        read_model(made.write_onnx(tmp_path, model))


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Constant", [], ["kc"], nonsense=3),
        helper.make_node("Constant", [], ["kc"], value=3),
        helper.make_node("Constant", [], ["kc"], value_int=0.5),
    ],
)
def test_a_constant_without_a_form_is_refused(tmp_path: Path, node):
    model = made.model()
    model.graph.node.insert(0, node)
    with pytest.raises(ArtifactError, match="no form of a constant"):
        read_model(made.write_onnx(tmp_path, model))


def test_a_sparse_constant_is_read_as_a_dense_one(tmp_path: Path):
    model = made.model()
    values = numpy_helper.from_array(np.full(1, 2.0, np.float32), "v")
    places = numpy_helper.from_array(np.full(1, 3), "i")
    sparse = helper.make_sparse_tensor(values, places, [5])
    model.graph.node.insert(0, helper.make_node("Constant", [], ["kc"], sparse_value=sparse))
    graph = open_graph(made.write_onnx(tmp_path, model))
    assert graph.array("kc").tolist() == [0, 0, 0, 2, 0]


def test_an_attribute_that_says_it_is_a_tensor_and_holds_none_is_refused(tmp_path: Path):
    model = made.model()
    hollow = onnx.AttributeProto(name="axis", type=onnx.AttributeProto.TENSOR)
    model.graph.node[1].attribute.append(hollow)
    for read in READERS:
        with pytest.raises(ArtifactError, match="unknown type 0"):
            read(made.write_onnx(tmp_path, model))


@pytest.mark.parametrize("version", [1 << 62, 1 << 31, -1])
def test_an_opset_that_is_no_version_is_refused(tmp_path: Path, version: int):
    model = made.model()
    model.opset_import[0].version = version
    for read in (read_model, open_graph):
        with pytest.raises(ArtifactError, match="no version"):
            read(made.write_onnx(tmp_path, model))


def declared(change) -> onnx.ModelProto:
    """A model whose values are declared as ``change`` leaves them."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xyz"]
    inner = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "b", [], [value[1]])
    nodes = [
        helper.make_node("Neg", ["x"], ["z"]),
        helper.make_node("If", ["x"], ["w"], then_branch=inner, else_branch=inner),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [value[0]], [value[2]]))
    change(model.graph)
    return model


def of_another_type(value: onnx.ValueInfoProto) -> None:
    value.type.tensor_type.elem_type = 2**31 - 1


def sequence(graph: onnx.GraphProto) -> None:
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    kind.tensor_type.elem_type = 99
    held = helper.make_value_info("s", helper.make_sequence_type_proto(kind))
    graph.value_info.append(held)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda graph: of_another_type(graph.input[0]), "x"),
        (lambda graph: of_another_type(graph.output[0]), "z"),
        (lambda graph: of_another_type(graph.node[1].attribute[0].g.output[0]), "y"),
        (sequence, "s"),
    ],
)
def test_a_value_that_is_declared_to_be_of_no_type(change, name):
    assert unknown_type(declared(change)).startswith(f"'{name}' has the unknown type")
    assert not unknown_type(declared(lambda graph: None))
