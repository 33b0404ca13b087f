"""``run SYSTEM --manifest FILE --jobs 2``: processes that are killed, and a bug in one of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from exporter import cli
from exporter.core.errors import EXIT_BUG, EXIT_USER_INPUT, UserInputError, exit_code
from exporter.core.users_fault import users_fault
from exporter.flows import manifest_workers
from exporter.flows.manifest_workers import Job, ProcessError, rows_elsewhere
from exporter.systems.manifest_rows import ROWS
from tests.support.planted_systems import ROOT, yaml_of

LINES = 300
_SOUNDS = 20
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from exporter.flows import manifest_workers"
_STOPS = f"{_CHILD} as m; m.bench_of = lambda *_: {{}}; m.child(sys.argv[2])"


@pytest.fixture
def stopping(monkeypatch) -> Callable[[str], Any]:
    """Runs a child that stops at an expression, and gives what the parent raises."""

    def stopped(expression: str) -> Any:
        monkeypatch.setattr(manifest_workers, "_CODE", _STOPS.format(expression))
        nothing: Any = None
        keys = ("system", "options", "folder", "files", "manifest")
        job = Job(**dict.fromkeys(keys, nothing))
        with pytest.raises(Exception) as told:
            list(rows_elsewhere(job, 1, {}))
        return told.value

    return stopped


def test_a_bug_in_a_process_is_a_bug_of_the_whole(stopping, capsys):
    error = stopping("1 // 0")
    assert isinstance(error, ProcessError) and exit_code(error) == EXIT_BUG
    assert "ZeroDivisionError" in str(error)
    assert cli._tell(error) == EXIT_BUG
    said = capsys.readouterr().err
    assert "a bug in export-verify" in said and "in <lambda>" in said, said


def test_an_error_of_the_user_in_a_process_is_the_users(stopping):
    error = stopping("(_ for _ in ()).throw(OSError(28, 'No space left on device', 'x'))")
    assert isinstance(error, UserInputError) and exit_code(error) == EXIT_USER_INPUT


@pytest.mark.parametrize(("code", "told"), [(1, EXIT_BUG), (-9, EXIT_USER_INPUT)])
def test_a_process_that_ends_without_a_word_is_a_bug_unless_it_was_killed(code, told):
    assert exit_code(manifest_workers._ended(code)) == told


@pytest.mark.parametrize(
    ("error", "user"),
    [
        (UserInputError("no such file"), True),
        (ModuleNotFoundError("no jiwer", name="jiwer"), True),
        (OSError(28, "No space left on device", "x"), True),
        (ProcessError("stopped"), False),
        (ZeroDivisionError(), False),
    ],
)
def test_whose_fault_an_error_is(error, user):
    assert (users_fault(error) is not None) is user


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Some hundred lines over a few recordings of noise."""
    folder = tmp_path_factory.mktemp("sounds")
    draw = np.random.default_rng(0)
    for number in range(_SOUNDS):
        sound = 0.1 * draw.standard_normal(8000 + 800 * number)
        soundfile.write(folder / f"{number}.wav", sound.astype(np.float32), 16000)
    rows = [{"audio": f"{n % _SOUNDS}.wav", "id": f"u{n:03d}"} for n in range(LINES)]
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def started(manifest: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "exporter", "run", str(yaml_of("ctc_tiny"))]
    command += ["--manifest", str(manifest), "--jobs", "2", "--output-dir", str(folder)]
    command += ["--trust", "--no-bench", "--quiet"]
    where = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=where, stderr=subprocess.PIPE, text=True)


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of results; the last one may be half written."""
    path = folder / ROWS
    lines = path.read_bytes().split(b"\n")[1:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def workers_of(parent: subprocess.Popen[str]) -> Iterator[psutil.Process]:
    for child in psutil.Process(parent.pid).children(recursive=True):
        if any("manifest_workers" in word for word in child.cmdline()):
            yield child


def until_rows(run: subprocess.Popen[str], folder: Path, count: int) -> list[psutil.Process]:
    """Wait until so many results lie there, and give the two that are at work."""
    deadline = time.monotonic() + 240
    while len(rows_in(folder)) < count:
        assert run.poll() is None, run.stderr and run.stderr.read()
        assert time.monotonic() < deadline, f"{len(rows_in(folder))} results"
        time.sleep(0.02)
    found = list(workers_of(run))
    assert len(found) == 2, "it was over before anything could be killed"
    return found


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_doubled_by_kills(manifest, tmp_path):
    """kill -9 of a worker, then of the parent, then a run to the end: as if nothing had been."""
    run = started(manifest, tmp_path)
    os.kill(until_rows(run, tmp_path, 20)[0].pid, signal.SIGKILL)
    _, said = run.communicate(timeout=60)
    assert run.returncode == EXIT_USER_INPUT and "was ended by signal 9" in said, said
    known = rows_in(tmp_path)
    assert 20 <= len(known) < LINES

    run = started(manifest, tmp_path)
    workers = until_rows(run, tmp_path, len(known) + 30)
    run.kill()
    run.communicate(timeout=60)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, "a worker outlived its parent"
    known = rows_in(tmp_path)
    numbers = [row["number"] for row in known]
    assert len(numbers) == len(set(numbers)) < LINES

    run = started(manifest, tmp_path)
    _, said = run.communicate(timeout=240)
    assert run.returncode == 0, said
    rows = rows_in(tmp_path)
    assert rows[: len(known)] == known, "what was known was run again"
    assert sorted(row["number"] for row in rows) == list(range(1, LINES + 1))
    found = json.loads((tmp_path / "system.json").read_text())["manifest"]
    assert (found["utterances"], found["done"]) == (LINES, LINES)
    assert found["taken_up"] == len(known)
