"""A file read for its graph alone says what a full parse says, or refuses what that refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from exporter.core.errors import ArtifactError
from exporter.graph.index import index_graph
from exporter.graph.onnx_file import open_graph, read_in_place, read_light, read_model
from exporter.graph.wire import delimited
from tests.support.files import parsed_whole, write_model

LARGE = 1 << 15
RANDOM = np.random.default_rng(0)


def model_with(*tensors: onnx.TensorProto) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("Identity", ["x"], ["y"], name="only")
    graph = helper.make_graph([node], "g", [x], [y], list(tensors))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    model.metadata_props.add(key="behind", value="the graph")
    return model


def saved(folder: Path, *tensors: onnx.TensorProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model_with(*tensors).SerializeToString())
    return path


def packed(name: str) -> onnx.TensorProto:
    values = RANDOM.integers(-8, 8, 4 * LARGE).tolist()
    return helper.make_tensor(name, TensorProto.INT4, [4 * LARGE], values)


def in_float_data(name: str) -> onnx.TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, [LARGE], RANDOM.normal(size=LARGE).tolist())


TENSORS = {
    "float32": numpy_helper.from_array(RANDOM.normal(size=(256, 128)).astype(np.float32), "t"),
    "float16": numpy_helper.from_array(RANDOM.normal(size=(512, 128)).astype(np.float16), "t"),
    "int64": numpy_helper.from_array(RANDOM.integers(-9, 9, LARGE), "t"),
    "bool": numpy_helper.from_array(RANDOM.integers(0, 2, 4 * LARGE).astype(bool), "t"),
    "small": numpy_helper.from_array(np.arange(3.0), "t"),
    "scalar": numpy_helper.from_array(np.float32(2.5), "t"),
    "packed": packed("t"),
    "float_data": in_float_data("t"),
    "bfloat16": helper.make_tensor("t", TensorProto.BFLOAT16, [2 * LARGE], [1.5] * (2 * LARGE)),
}


@pytest.mark.parametrize("name", TENSORS)
def test_values_and_graph_are_those_of_a_full_parse(tmp_path: Path, name: str):
    path = saved(tmp_path, TENSORS[name], numpy_helper.from_array(np.ones(2), "other"))
    full, light = index_graph(parsed_whole(path), tmp_path), open_graph(path)
    assert list(light.initializers) == list(full.initializers)
    for held in full.initializers:
        left, right = light.array(held), full.array(held)
        assert left.dtype == right.dtype and left.shape == right.shape
        assert left.tobytes() == right.tobytes()
    assert light.model.metadata_props == full.model.metadata_props
    assert light.model.graph.node == full.model.graph.node
    assert light.model.graph.input == full.model.graph.input


@pytest.mark.parametrize("name", TENSORS)
def test_a_model_that_is_read_whole_is_that_of_a_full_parse(tmp_path: Path, name: str):
    path = saved(tmp_path, TENSORS[name], numpy_helper.from_array(np.ones(2), "other"))
    assert read_model(path) == parsed_whole(path)


def test_large_weights_are_held_once_and_aligned(tmp_path: Path):
    model, arrays = read_light(saved(tmp_path, TENSORS["float32"]))
    assert set(arrays) == {"t"} and arrays["t"].flags.aligned
    assert not model.graph.initializer[0].raw_data
    assert list(model.graph.initializer[0].dims) == [256, 128]


def test_external_data_stays_where_it_is_and_is_checked(tmp_path: Path):
    path = tmp_path / "model.onnx"
    write_model(model_with(TENSORS["float32"]), path, external_data=True, metadata={})
    expected = numpy_helper.to_array(TENSORS["float32"])
    assert np.array_equal(open_graph(path).array("t"), expected)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        open_graph(path)


def test_a_graph_in_two_parts_is_one_graph(tmp_path: Path):
    # Protobuf merges a message that comes twice; so must whoever reads the bytes.
    whole = model_with(TENSORS["float32"])
    more = onnx.GraphProto()
    more.initializer.append(numpy_helper.from_array(np.full(LARGE, 3.0), "late"))
    path = tmp_path / "model.onnx"
    path.write_bytes(whole.SerializeToString() + delimited(7, more.SerializeToString()))
    light = open_graph(path)
    assert list(light.initializers) == ["t", "late"]
    assert light.array("late")[0] == 3.0


@pytest.mark.parametrize("kept", [0, 1, 100, 70_000, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kept: int):
    path = saved(tmp_path, TENSORS["float32"])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ArtifactError):
        read_light(path)


@pytest.mark.parametrize("field", ["dims", "data_type"])
def test_a_tensor_whose_bytes_are_not_its_shape_is_refused(tmp_path: Path, field: str):
    damaged = onnx.TensorProto()
    damaged.CopyFrom(TENSORS["float32"])
    if field == "dims":
        damaged.dims[0] += 1
    else:
        damaged.data_type = 999
    with pytest.raises(ArtifactError):
        read_light(saved(tmp_path, damaged))


def test_no_file_and_no_graph_are_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such ONNX file"):
        read_light(tmp_path / "none.onnx")
    (tmp_path / "empty.onnx").write_bytes(onnx.ModelProto(ir_version=10).SerializeToString())
    with pytest.raises(ArtifactError, match="holds no graph"):
        read_light(tmp_path / "empty.onnx")


BYTES = model_with(TENSORS["float32"]).SerializeToString()


# Most bytes are weights, of which any value will do; those around them are not.
@given(st.integers(0, 200) | st.integers(len(BYTES) - 200, len(BYTES) - 1), st.integers(0, 255))
@settings(max_examples=500)
def test_any_flipped_byte_is_read_or_refused(tmp_path_factory, at: int, value: int):
    path = tmp_path_factory.mktemp("flipped") / "model.onnx"
    path.write_bytes(BYTES[:at] + bytes([value]) + BYTES[at + 1 :])
    try:
        read_light(path)
    except ArtifactError:
        return


@pytest.mark.parametrize("name", TENSORS)
def test_weights_read_in_place_are_those_of_the_file(tmp_path: Path, name: str):
    path = saved(tmp_path, TENSORS[name])
    full, placed = (
        index_graph(parsed_whole(path), tmp_path),
        index_graph(read_in_place(path), tmp_path),
    )
    left, right = placed.array("t"), full.array("t")
    assert left.dtype == right.dtype and left.shape == right.shape
    assert left.tobytes() == right.tobytes()


def test_a_large_weight_read_in_place_points_into_its_file(tmp_path: Path):
    (tensor,) = read_in_place(saved(tmp_path, TENSORS["float32"])).graph.initializer
    place = {item.key: item.value for item in tensor.external_data}
    assert place["location"] == "model.onnx" and place["length"] == str(4 * 256 * 128)
    assert not tensor.raw_data
