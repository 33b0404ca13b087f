"""Files of others that crash, take all memory or never end: a sentence, in every command."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporter.cli import main
from tests.support import small_files as files

SECONDS = "EXPORT_VERIFY_TRIAL_SECONDS"
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "dies": (files.dies, "died of SIGFPE"),
    "endless": (files.endless, "did not end within 3 s"),
    "nested": (files.nested, "did not end within 3 s"),
    "swells": (files.swells, "of memory that EXPORT_VERIFY_TRIAL_GIB allows"),
}
"""How it is made, and what is said of it."""
LINEAR = """
import torch


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.inner(x)
"""
YAML = """
name: linear
model: {factory: "linear:Linear"}
inputs:
  x: {dtype: float32, shape: [n, 3]}
axes: {n: {example: 4}}
outputs: [y]
cases:
  - name: one
    random: {x: {kind: normal, seed: 1, sizes: {n: 4}}}
default_case: one
"""


@pytest.fixture(autouse=True)
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Three seconds a step, and three GiB; what takes memory takes them at its leisure."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SECONDS, "60" if "[swells]" in request.node.name else "3")
    monkeypatch.setenv("EXPORT_VERIFY_TRIAL_GIB", "3")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline whose module takes and gives what the files do."""
    folder = tmp_path_factory.mktemp("linear")
    (folder / "linear.py").write_text(LINEAR, encoding="utf-8")
    (folder / "linear.yaml").write_text(YAML, encoding="utf-8")
    return folder


def healthy(path: Path, weight: np.ndarray | None = None) -> Path:
    """y = x w, as somebody else writes it."""
    weights = {"w": (np.eye(3) if weight is None else weight).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return files.save(path, nodes, {"x": (TensorProto.FLOAT, ["n", 3])}, ["y"], weights)


def told(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that has to be refused, in time."""
    capsys.readouterr()
    began = time.monotonic()
    assert main(command) == 2
    assert time.monotonic() - began < 300
    said = capsys.readouterr().err
    assert "it ran in a process of its own" in said
    return said


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD)
def test_compare_of_a_file_that_ends_its_process(bad: str, tmp_path: Path, capsys):
    make, words = BAD[bad]
    good, path = healthy(tmp_path / "good.onnx"), make(tmp_path / "bad.onnx")
    said = told(["compare", str(good), str(path)], capsys)
    assert words in said and "bad.onnx" in said
    assert words in told(["compare", str(path), str(good)], capsys)


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD)
def test_verify_of_a_file_that_ends_its_process(bad: str, project: Path, tmp_path: Path, capsys):
    make, words = BAD[bad]
    path = make(tmp_path / "bad.onnx")
    command = ["verify", str(project / "linear.yaml"), "--trust", "--onnx", str(path)]
    said = told([*command, "--output-dir", str(project / "out")], capsys)
    assert words in said and "bad.onnx" in said


@pytest.mark.slow
def test_healthy_files_of_others_are_judged_as_before(project: Path, tmp_path: Path, capsys):
    good = healthy(tmp_path / "good.onnx")
    other = healthy(tmp_path / "other.onnx", 1.01 * np.eye(3))
    assert main(["compare", str(good), str(healthy(tmp_path / "copy.onnx"))]) == 0
    assert main(["compare", str(good), str(other)]) == 1
    assert "not the same function" in capsys.readouterr().out
    command = ["verify", str(project / "linear.yaml"), "--trust", "--onnx", str(good)]
    assert main([*command, "--output-dir", str(project / "out")]) == 1
    report = (project / "out" / "verify" / "report.json").read_text(encoding="utf-8")
    assert "good.onnx" in report and onnx.load(good).graph.node[0].op_type == "MatMul"


@pytest.mark.parametrize("words", [["check", "--onnx"], ["lint"]])
def test_inference_that_never_lets_python_have_a_turn_is_ended(
    words: list[str], tmp_path: Path, capsys
):
    path = files.nested(tmp_path / "nested.onnx")
    said = told([*words, str(path)], capsys)
    assert "did not end within 3 s" in said and SECONDS in said
