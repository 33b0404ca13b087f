"""What is given for ONNX and is something else is called by its name, with what to give instead."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest
from safetensors.numpy import save

from exporter import cli
from exporter.core.errors import ArtifactError
from exporter.graph.contents import read_contents
from exporter.graph.onnx_file import read_light, read_model
from tests.golden import made


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    return stream.getvalue()


FILES = {
    "m.ort": (b"\x1c\0\0\0ORTM" + bytes(100), "onnxruntime's own format (.ort)"),
    "renamed_ort.onnx": (b"\x1c\0\0\0ORTM" + bytes(100), "onnxruntime's own format (.ort)"),
    "m.tflite": (b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite"),
    "m.pt": (zipped(), "a zip archive, as torch.save"),
    "m.onnx.gz": (gzip.compress(b"x"), "a compressed file"),
    "lfs.onnx": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
    "page.onnx": (b"\n<!DOCTYPE html><html>", "a web page"),
    "m.json": (b'{"irVersion": "8"}', "ONNX as text"),
    "m.onnxtxt": (b"ir_version: 8\n", "ONNX as text"),
    "m.safetensors": (save({"w": made.weights()[0]}), "weights without a graph"),
    "cut.onnx": (made.model().SerializeToString()[:-9], "cut off"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("reader", [read_model, read_light, read_contents])
def test_the_format_is_named(tmp_path: Path, name: str, reader):
    content, words = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        reader(path)
    assert words in caught.value.problem and caught.value.remedy
    if name != "cut.onnx":
        assert "cut off" not in caught.value.problem


def test_the_command_line_says_so_with_exit_2(tmp_path: Path, capsys):
    path = tmp_path / "m.ort"
    path.write_bytes(FILES["m.ort"][0])
    assert cli.main(["inspect", str(path)]) == 2
    assert "onnxruntime's own format" in capsys.readouterr().err


def test_a_healthy_file_of_any_name_is_read(tmp_path: Path):
    path = tmp_path / "m.json"
    path.write_bytes(made.model().SerializeToString())
    assert read_model(path).graph.name == "made"
