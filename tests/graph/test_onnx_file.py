"""ONNX files from outside are not trusted; ours are whole or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.core.artifact import sha256_of
from exporter.core.errors import ArtifactError
from exporter.execution.onnx_runs import FileRun
from exporter.graph import onnx_file_writer
from exporter.graph.onnx_file import open_artifact, read_model
from tests.support.files import write_model

ROOT = Path(__file__).resolve().parents[2]


def small(size: int = 1024, *, value: float = 1.0) -> onnx.ModelProto:
    weight = np.full(size, value, np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [size])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [size])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [x],
        [y],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def external(tmp_path: Path) -> Path:
    write_model(small(), tmp_path / "m.onnx", external_data=True, metadata={})
    return tmp_path / "m.onnx"


def point(path: Path, **entries: str) -> None:
    model = onnx.ModelProto()
    model.ParseFromString(path.read_bytes())
    for item in model.graph.initializer[0].external_data:
        item.value = entries.get(item.key, item.value)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("location", ["../other.data", "/etc/passwd", "a/../../other.data"])
def test_external_data_outside_of_the_folder_is_refused(external: Path, location: str):
    (external.parent.parent / "other.data").write_bytes(bytes(8192))
    point(external, location=location)
    with pytest.raises(ArtifactError, match="lies outside the file's folder"):
        read_model(external)


def test_external_data_behind_a_link_is_refused(external: Path):
    outside = external.parent.parent / "linked.data"
    outside.write_bytes(bytes(8192))
    data = external.with_name("m.onnx.data")
    data.unlink()
    data.symlink_to(outside)
    with pytest.raises(ArtifactError, match="lies outside the file's folder"):
        read_model(external)


def test_missing_external_data_is_named_with_its_tensor(external: Path):
    external.with_name("m.onnx.data").unlink()
    with pytest.raises(ArtifactError, match=r"initializer 'w'.*\n?.*'m.onnx.data' is missing"):
        read_model(external)


def test_short_external_data_is_refused(external: Path):
    data = external.with_name("m.onnx.data")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="has 4095 bytes, the tensor ends at byte 4096"):
        read_model(external)


def test_an_offset_behind_the_end_is_refused(external: Path):
    point(external, offset="64")
    with pytest.raises(ArtifactError, match="the tensor ends at byte 4160"):
        read_model(external)


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x08\x0a", bytes(100)])
def test_what_is_no_graph_is_said(tmp_path: Path, content: bytes):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"not an ONNX file|holds no graph"):
        read_model(tmp_path / "m.onnx")


def test_a_cut_off_file_is_said(tmp_path: Path):
    path = tmp_path / "m.onnx"
    write_model(small(), path, external_data=False, metadata={})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="cut off"):
        read_model(path)


def test_a_missing_file_is_said(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such ONNX file"):
        read_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("split", [False, True])
def test_what_was_written_is_described_read_and_run(tmp_path: Path, split: bool):
    path = tmp_path / "m.onnx"
    written = write_model(small(value=2.0), path, external_data=split, metadata={"b": "2"})
    found, graph = open_artifact(path)
    assert found == written
    assert written.metadata == {"b": "2"}
    assert written.sha256 == sha256_of(path)
    assert bool(written.external) is split
    assert np.array_equal(graph.array("w"), np.full(1024, 2, np.float32))
    assert FileRun(path).run({"x": np.ones(1024, np.float32)})["y"][0] == 3.0


def test_a_model_that_is_too_large_for_one_file_is_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(onnx_file_writer, "EXTERNAL_LIMIT", 1000)
    written = write_model(small(), tmp_path / "m.onnx", external_data=False, metadata={})
    assert list(written.external) == ["m.onnx.data"]


def test_one_file_again_leaves_no_old_weights_beside_it(external: Path):
    write_model(small(), external, external_data=False, metadata={})
    assert sorted(p.name for p in external.parent.iterdir()) == ["m.onnx"]


@pytest.mark.parametrize(("split", "failing"), [(False, 1), (True, 1), (True, 2)])
def test_an_interruption_never_pairs_a_file_with_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: bool, failing: int
):
    path = tmp_path / "m.onnx"
    write_model(small(value=1.0), path, external_data=split, metadata={})
    real, calls = os.replace, []

    def replace(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write_model(small(value=2.0), path, external_data=split, metadata={})
    # Two files cannot be exchanged at once: then there is none, which nobody believes.
    assert path.exists() is not split
    if not split:
        _, graph = open_artifact(path)
        assert graph.array("w")[0] == 1.0


_WRITER = """
import sys
from pathlib import Path
from tests.graph.test_onnx_file import small
from tests.support.files import write_model
path, split = Path(sys.argv[1]), sys.argv[2] == "split"
models = [small(1 << 22, value=float(v)) for v in (1, 2)]
print("ready", flush=True)
while True:
    for model in models:
        write_model(model, path, external_data=split, metadata={})
"""


@pytest.mark.parametrize("split", [False, True])
def test_a_writer_that_is_killed_leaves_a_whole_file_or_none(tmp_path: Path, split: bool):
    path = tmp_path / "m.onnx"
    for delay in (0.02, 0.05, 0.11):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), "split" if split else "one"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        if path.exists():
            _, graph = open_artifact(path)
            weight = graph.array("w")
            assert np.all(weight == weight[0])
            assert weight[0] in (1.0, 2.0)


@pytest.mark.parametrize("place", ["producer_name", "domain", "node", "dim_param", "attribute"])
def test_text_that_is_none_is_refused_wherever_it_stands(place: str, tmp_path: Path):
    model, mark = small(), "MARKED"
    node = model.graph.node[0]
    if place == "node":
        node.name = mark
    elif place == "dim_param":
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = mark
    elif place == "attribute":
        node.attribute.add(name=mark, type=onnx.AttributeProto.INT, i=1)
    else:
        setattr(model, place, mark)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString().replace(b"MARKED", b"\xff\xfeRKED"))
    with pytest.raises(ArtifactError, match="is none in UTF-8"):
        read_model(path)
