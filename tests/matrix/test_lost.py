"""Real processes: a scheduler and workers of their own, of which some are killed in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from exporter.matrix.verdict import VERDICT
from tests.matrix import toy

ROOT = Path(__file__).resolve().parents[2]
TEXT = "name: m\npipelines: [made.yaml]\naxes: {threads: [1, 2, 3], level: [disable, all]}\n"
_SECONDS = 150


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@contextlib.contextmanager
def cluster(
    folder: Path, workers: int = 2, options: Sequence[str] = ()
) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A scheduler and workers without nannies, each a process; all end with the block."""
    address = f"tcp://127.0.0.1:{free_port()}"
    kind = [sys.executable, "-m", "distributed.cli.dask_{}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EXPORT_VERIFY_CACHE": "off"}
    scheduler = ["--host", "127.0.0.1", "--port", address.rsplit(":", 1)[1], "--no-dashboard"]
    worker = [address, "--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard"]
    worker += options
    words = [("scheduler", scheduler), *[("worker", worker)] * workers]
    running = []
    try:
        for name, given in words:
            command = [*kind[:2], kind[2].format(name), *given]
            log = (folder / f"{name}{len(running)}.log").open("w")
            running.append(
                subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
            )
        yield address, running
    finally:
        for process in running:
            process.kill()
            process.wait()


def start(folder: Path, address: str) -> subprocess.Popen:
    words = ["matrix", "toy.yaml", "--all", "--scheduler", address, "--output-dir", "out"]
    return subprocess.Popen(
        [sys.executable, "-m", "exporter", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "EXPORT_VERIFY_CACHE": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def verdicts(folder: Path) -> dict[Path, int]:
    found = (folder / "out" / "cells").glob(f"*/{VERDICT}")
    return {path: path.stat().st_mtime_ns for path in found}


def wait_for(folder: Path, count: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + _SECONDS
    while len(verdicts(folder)) < count and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def prepared(folder: Path) -> None:
    toy.put_files(toy.matrix(folder, TEXT), folder, folder / "out")


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path):
    prepared(tmp_path)
    with cluster(tmp_path) as (address, running):
        process = start(tmp_path, address)
        wait_for(tmp_path, 1, process)
        running[1].send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=_SECONDS)
    assert process.returncode == 0, out + err
    assert "pass: 6 pass; 6 of 6 asked" in out
    assert len(verdicts(tmp_path)) == 6
    found = json.loads((tmp_path / "out" / "matrix.json").read_text())
    assert {cell["status"] for cell in found["cells"]} == {"pass"}


@pytest.mark.slow
def test_a_scheduler_that_is_killed_ends_it_with_a_sentence_and_a_second_start_goes_on(
    tmp_path: Path,
):
    prepared(tmp_path)
    with cluster(tmp_path, workers=1) as (address, running):
        process = start(tmp_path, address)
        wait_for(tmp_path, 2, process)
        running[0].send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=_SECONDS)
        before = verdicts(tmp_path)
    assert process.returncode == 2, out + err
    assert "has gone" in err and "are not run again" in err and "Traceback" not in err
    assert 2 <= len(before) < 6
    with cluster(tmp_path, workers=1) as (address, _):
        process = start(tmp_path, address)
        out, err = process.communicate(timeout=_SECONDS)
    assert process.returncode == 0, out + err
    after = verdicts(tmp_path)
    assert len(after) == 6
    # One that was at work may have been cut off; those that had ended are as they were.
    assert sum(after[path] != written for path, written in before.items()) == 0
