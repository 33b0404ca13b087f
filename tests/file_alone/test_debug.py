"""``debug A.onnx --onnx B.onnx``: the value in which two files part, out of both, in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporter.cli import main
from exporter.core.errors import UserInputError
from exporter.flows.debug_files import debug_files
from tests.support import small_files as files
from tests.support.other_tools import optimised


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file, and another tool's form of it with one weight changed."""
    folder = tmp_path_factory.mktemp("pair")
    truth = files.stream(folder / "a.onnx")
    model = onnx.load(str(truth))
    weight = next(t for t in model.graph.initializer if t.name == "w")
    array = numpy_helper.to_array(weight).copy()
    array[1, 1, 1] += 0.25
    weight.CopyFrom(numpy_helper.from_array(array, "w"))
    onnx.save(model, str(folder / "changed.onnx"))
    return truth, optimised(folder / "changed.onnx")


def rerun(folder: Path) -> int:
    done = subprocess.run(
        [sys.executable, str(folder / "repro.py")], capture_output=True, text=True
    )
    assert "differ" in done.stdout.lower() or "agree" in done.stdout, done.stderr
    return done.returncode


def test_the_first_value_that_differs_is_taken_out_of_both(pair: tuple[Path, Path], tmp_path: Path):
    found = debug_files(*pair, tmp_path)
    assert found.exit_code == 1
    assert found.folder is not None
    text = (found.folder / "README.md").read_text()
    assert "Conv in encoder.conv computes 'conv'" in text
    assert "the weight 'w' float32 [3, 3, 3]" in text
    kinds = {node.op_type for node in onnx.load(str(found.folder / "a.onnx")).graph.node}
    assert "Conv" in kinds
    assert "Tanh" not in kinds
    assert rerun(found.folder) == 1


def test_a_value_that_agrees_is_taken_out_when_asked_for(pair: tuple[Path, Path], tmp_path: Path):
    found = debug_files(*pair, tmp_path, value="turned")
    assert found.folder is not None
    assert rerun(found.folder) == 0


def test_files_that_agree_leave_no_bundle(pair: tuple[Path, Path], tmp_path: Path):
    found = debug_files(pair[0], optimised(pair[0]), tmp_path / "bundles")
    assert found.exit_code == 0
    assert found.folder is None
    assert not (tmp_path / "bundles").exists()


def test_a_value_that_is_not_there_is_refused(pair: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(UserInputError, match="no value 'trned' is joined") as raised:
        debug_files(*pair, tmp_path, value="trned")
    assert "turned" in (raised.value.remedy or "")


def test_the_command(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    case = tmp_path / "case.npz"
    random = np.random.default_rng(0)
    inputs = {files.X: (2, 9, 3), files.CACHE: (2, 2, 3)}
    np.savez(case, **{k: random.standard_normal(s).astype(np.float32) for k, s in inputs.items()})
    words = ["debug", str(pair[0]), "--onnx", str(pair[1]), "--bundles", str(tmp_path / "b")]
    assert main([*words, "--inputs", str(case)]) == 1
    shown = capsys.readouterr().out
    assert "Conv in encoder.conv computes" in shown
    assert "bundle: " in shown
    assert main(["debug", str(pair[0])]) == 2
