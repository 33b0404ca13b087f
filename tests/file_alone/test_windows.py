"""Files that take windows of one size, several at once, under a name that says nothing of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from exporter.config.load import load_pipeline
from exporter.flows.check import check
from exporter.flows.compare import compare
from exporter.flows.init_file import init_file, write_description
from tests.support.small_files import save

SAMPLES = 5_000


def normalised(path: Path) -> Path:
    """Windows [unk__7, samples, 1], each divided by its peak; of silence rounding alone is left.

    0.1 * 3 - 0.3 is nought in float32 and -7e-9 in float64, of the same constants.
    """
    node = helper.make_node
    nodes = [
        node("Add", ["audio", "tenth"], ["a"]),
        node("Mul", ["a", "three"], ["b"]),
        node("Sub", ["b", "threetenths"], ["level"]),
        node("Abs", ["level"], ["size"]),
        node("ReduceMax", ["size"], ["peak"], axes=[1], keepdims=1),
        node("Add", ["peak", "tiny"], ["some"]),
        node("Div", ["level", "some"], ["y"], name="normalise"),
    ]
    weights = {"tenth": 0.1, "three": 3.0, "threetenths": 0.3, "tiny": 1e-12}
    return save(
        path,
        nodes,
        {"audio": (TensorProto.FLOAT, ["unk__7", SAMPLES, 1])},
        ["y"],
        {name: np.array(value, np.float32) for name, value in weights.items()},
    )


def test_rows_of_whole_windows_are_a_batch(tmp_path: Path):
    found = init_file(normalised(tmp_path / "net.onnx"))
    assert [axis.name for axis in found.axes] == ["batch"]
    assert found.inputs[0].shape == ("batch", SAMPLES, 1)


def test_frames_that_know_of_no_other_are_time(tmp_path: Path):
    """They turn round as rows do."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weight = np.random.default_rng(0).standard_normal((80, 4)).astype(np.float32)
    path = save(
        tmp_path / "net.onnx", [node], {"x": (TensorProto.FLOAT, ["t", 80])}, ["y"], {"w": weight}
    )
    assert [axis.name for axis in init_file(path).axes] == ["t"]


def test_what_is_left_of_silence_is_named_where_it_is_made_large(tmp_path: Path):
    path = normalised(tmp_path / "net.onnx")
    place = path.with_suffix(".yaml")
    write_description(init_file(path), place)
    found = {record.name: record for record in check(load_pipeline(place))}
    assert found["padding"].verdict == "pass"  # rows alone and among others
    silence = found["silence"]
    assert silence.verdict == "fail"
    assert "silence: 'y' is " in silence.reason and "in float64" in silence.reason
    assert silence.where == "(root) [Div 'normalise']"


def test_compare_draws_a_few_windows_and_no_hundreds(tmp_path: Path, monkeypatch):
    path = normalised(tmp_path / "net.onnx")
    drawn = []
    monkeypatch.setattr(
        "exporter.flows.compare_inputs.inputs_for",
        lambda graph, inputs, names: drawn.append(inputs["audio"].shape) or dict(inputs),
    )
    assert compare(path, path).exit_code == 0
    assert set(drawn) == {(2, SAMPLES, 1)}
