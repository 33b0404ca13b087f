"""A signal ends the program at once, with one line, whatever it is doing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_START = """
import os, sys, time
from pathlib import Path
from exporter.core.interrupts import end_at_signals, undone
end_at_signals()
folder = Path(sys.argv[1])
def ready():
    os.write(1, b"ready\\n")
"""
_WORK = {
    "sleeping": "ready(); time.sleep(60)",
    "waiting for a lock": "import threading; ready(); threading.Event().wait(60)",
    "importing torch": "ready(); import torch; time.sleep(60)",
    "importing onnxruntime": "ready(); import onnxruntime; time.sleep(60)",
    "computing in torch": """
import torch
a = torch.rand(3000, 3000, dtype=torch.float64)
ready()
for _ in range(1000):
    a @ a
""",
    "computing in onnxruntime": """
import numpy as np, onnx, onnxruntime
from onnx import helper
body = helper.make_graph(
    [helper.make_node("MatMul", ["x_in", "x_in"], ["x_out"]),
     helper.make_node("Identity", ["go_in"], ["go_out"])], "body",
    [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("go_in", 9, []),
     helper.make_tensor_value_info("x_in", 1, [512, 512])],
    [helper.make_tensor_value_info("go_out", 9, []),
     helper.make_tensor_value_info("x_out", 1, [512, 512])])
graph = helper.make_graph([helper.make_node("Loop", ["n", "go", "x"], ["y"], body=body)], "g",
    [helper.make_tensor_value_info("x", 1, [512, 512])],
    [helper.make_tensor_value_info("y", 1, [512, 512])],
    [helper.make_tensor("n", 7, [], [10**9]), helper.make_tensor("go", 9, [], [True])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
session = onnxruntime.InferenceSession(model.SerializeToString())
ready()
session.run(None, {"x": np.zeros((512, 512), np.float32)})
""",
    "writing a file": """
from exporter.core.files import replacing, temporary_folder
with temporary_folder() as held, replacing(folder / "a.txt") as part:
    part.write_text("half")
    (folder / "where").write_text(str(held))
    ready()
    time.sleep(60)
""",
    "with a child": """
from exporter.core.children import child_process
sleeper = "import os, subprocess, sys, time; "
sleeper += "a = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
sleeper += "print(os.getpid(), a.pid, flush=True); time.sleep(60)"
with child_process([sys.executable, "-c", sleeper]) as child:
    (folder / "pids").write_text(child.stdout.readline())
    ready()
    time.sleep(60)
""",
}
_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def _started(work: str, folder: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", _START + work, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def _ended(child: subprocess.Popen[str], number: int) -> float:
    began = time.monotonic()
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 128 + number, said
    assert said == f"interrupted ({signal.Signals(number).name})\n"
    return time.monotonic() - began


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", _CODES)
@pytest.mark.parametrize("work", ["sleeping", "waiting for a lock", "writing a file"])
def test_each_signal_has_its_exit_code_and_its_line(tmp_path: Path, number: int, work: str):
    _ended(_started(_WORK[work], tmp_path), number)
    assert _CODES[signal.Signals(number)] == 128 + number


@pytest.mark.parametrize("wait", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("work", ["importing torch", "importing onnxruntime"])
def test_a_library_that_is_being_loaded_does_not_end_in_an_abort(
    tmp_path: Path, work: str, wait: float
):
    child = _started(_WORK[work], tmp_path)
    time.sleep(wait)
    _ended(child, signal.SIGINT)


@pytest.mark.parametrize("work", ["computing in torch", "computing in onnxruntime"])
def test_what_computes_is_not_waited_for(tmp_path: Path, work: str):
    child = _started(_WORK[work], tmp_path)
    time.sleep(0.5)
    assert _ended(child, signal.SIGTERM) < 10


def test_nothing_half_written_stays(tmp_path: Path):
    _ended(_started(_WORK["writing a file"], tmp_path), signal.SIGTERM)
    assert [path.name for path in tmp_path.iterdir()] == ["where"]
    assert not Path((tmp_path / "where").read_text()).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_children_and_theirs_are_ended(tmp_path: Path, number: int):
    child = _started(_WORK["with a child"], tmp_path)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2 and all(map(_alive, pids))
    _ended(child, number)
    deadline = time.monotonic() + 5
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(_alive, pids))


def test_a_child_ends_with_its_parent_however_that_ends(tmp_path: Path):
    work = """
import subprocess
code = "import os, sys, time; from exporter.core.children import end_with_parent; "
code += "end_with_parent(int(sys.argv[1])); print(os.getpid(), flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code, str(os.getpid())], stdout=subprocess.PIPE)
(folder / "pid").write_bytes(child.stdout.readline())
ready()
time.sleep(60)
"""
    parent = _started(work, tmp_path)
    pid = int((tmp_path / "pid").read_text())
    assert _alive(pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(pid)


def test_a_child_whose_parent_is_gone_ends(tmp_path: Path):
    code = "from exporter.core.children import end_with_parent; end_with_parent(1 << 22); print(1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and not done.stdout


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path):
    work = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    start = work + _START
    child = subprocess.Popen(
        [sys.executable, "-c", start + _WORK["sleeping"], str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert child.poll() is None
    _ended(child, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("number", _CODES)
def test_a_run_ends_at_any_moment(tmp_path: Path, number: int):
    """From the first imports to the comparison; what is there afterwards is run into again."""
    command = [sys.executable, "-m", "exporter", "run", "pipelines/silero_vad_tiny.yaml"]
    command += ["--output-dir", str(tmp_path / "out"), "--no-cache"]
    for wait in (0.0, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0, 6.0):
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        _wait_for_handlers(child)
        time.sleep(wait)
        if child.poll() == 0 and wait > 2:  # a fast machine was done by then
            break
        child.send_signal(number)
        _, said = child.communicate(timeout=60)
        assert child.returncode == 128 + number, said
        assert said.splitlines()[-1] == f"interrupted ({signal.Signals(number).name})"
        assert "Traceback" not in said and "terminate" not in said
        assert not list(tmp_path.glob("out/**/*.part"))
    assert os.listdir(tmp_path) in ([], ["out"])  # noqa: PTH208


def _wait_for_handlers(child: subprocess.Popen[str]) -> None:
    """Until ``child`` catches SIGHUP, the last one that it takes: before it Python is starting."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{child.pid}/status").read_text(), re.M)
        if caught and int(caught[1], 16) >> (signal.SIGHUP - 1) & 1:
            return
        time.sleep(0.005)
    raise AssertionError("no handler after 30 s")
