"""Inputs that a user gives for two files: whatever lies in the file, a value or one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporter.core.errors import UserInputError
from exporter.graph.onnx_file import open_graph
from exporter.joining.interface_inputs import Input, drawn_sets
from exporter.joining.same_interface import inputs_of_other, read_case
from tests.support.small_files import save


def written(path: Path) -> bytes:
    np.savez_compressed(path, x=np.arange(400.0).reshape(20, 20), more=np.zeros(3))
    return path.read_bytes()


def test_inputs_are_taken_by_name(tmp_path: Path):
    written(tmp_path / "in.npz")
    found = read_case(tmp_path / "in.npz", ["x"])
    assert list(found) == ["x"] and found["x"].shape == (20, 20)


@pytest.mark.parametrize("damage", ["cut", "flipped", "a pickle", "lacking"])
def test_a_file_that_cannot_be_taken_is_the_users(tmp_path: Path, damage: str):
    path = tmp_path / "in.npz"
    data = written(path)
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        path.write_bytes(data[:60] + bytes(255 - b for b in data[60:80]) + data[80:])
    elif damage == "a pickle":
        np.savez(path, x=np.array([{}], dtype=object))
    else:
        np.savez(path, other=np.zeros(3))
    with pytest.raises(UserInputError):
        read_case(path, ["x"])


def test_inputs_of_no_type_are_refused_on_either_side(tmp_path: Path):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    good = save(tmp_path / "good.onnx", nodes, {"x": (TensorProto.FLOAT, ["n", 3])}, ["y"])
    model = onnx.load(good)
    for name, kind in (("none", None), ("unknown", 0)):
        model.graph.input[0].ClearField("type")
        if kind is not None:
            model.graph.input[0].type.tensor_type.elem_type = kind
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    graphs = {name: open_graph(tmp_path / f"{name}.onnx") for name in ("good", "none", "unknown")}
    paths = (tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert inputs_of_other(graphs["good"], graphs["good"], paths) == {"x": "x"}
    for bad in ("none", "unknown"):
        for pair in ((graphs["good"], graphs[bad]), (graphs[bad], graphs["good"])):
            with pytest.raises(UserInputError, match="input 'x' is"):
                inputs_of_other(*pair, paths)


@pytest.mark.parametrize("size", [-3, 2**62, 2**40])
def test_sizes_that_nobody_can_draw_are_refused_with_the_input(size: int):
    specs = [Input("x", np.dtype(np.float32), ("n", size))]

    def never(_sets: object) -> None:
        raise AssertionError("nothing was drawn")

    with pytest.raises(UserInputError, match=f"'x' of size .*{size}"):
        drawn_sets(specs, never, (1, 2), {}, lambda inputs: inputs)


def test_a_size_that_can_be_drawn_is():
    specs = [Input("x", np.dtype(np.float32), ("n", 5))]
    assert drawn_sets(specs, lambda _: None, (1,), {"n": 7}, lambda i: i)[0]["x"].shape == (7, 5)
