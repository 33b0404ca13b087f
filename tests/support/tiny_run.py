"""One run of ``pipelines/sensevoice_tiny.yaml``, made once and shared by every test and worker.

The run is the command itself in a process of its own, so that what it prints can be tested too.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from exporter.cache.place import FOLDER_VARIABLE
from exporter.core.artifact import sha256_of
from exporter.report.schema import Report, read_report

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "pipelines" / "sensevoice_tiny.yaml"
CACHE = "cache"
"""Beside the run: what it exported, for tests that run the same pipeline as a command."""
CASES = ("english", "mandarin", "noisy", "silence", "noise_seed_1")
"""All cases but the one of a minute, which would take as long as the others together."""


@dataclass(frozen=True, kw_only=True)
class TinyRun:
    """What the run left.

    Attributes:
        folder: its output folder; tests must not change anything in it.
        command, code, out, err: the command line, how it ended and what it printed.
    """

    folder: Path
    command: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def model_path(self) -> Path:
        """What is shipped."""
        return self.folder / "model.onnx"

    @property
    def exported_path(self) -> Path:
        """What the exporter wrote, before simplification."""
        return self.folder / "exported.onnx"

    @property
    def cache(self) -> Path:
        """The cache that the run has filled."""
        return self.folder.parent / CACHE

    @cached_property
    def report(self) -> Report:
        """report.json, validated."""
        return read_report(self.folder / "report.json")

    @cached_property
    def digest(self) -> str:
        """sha256 of model.onnx."""
        return sha256_of(self.model_path)


def make_tiny_run(shared: Path) -> TinyRun:
    """Make the run below ``shared``, or wait for the process that is making it and read it."""
    shared.mkdir(parents=True, exist_ok=True)
    folder, told = shared / "run", shared / "told.json"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            _run(folder, told)
    found = json.loads(told.read_text(encoding="utf-8"))
    run = TinyRun(folder=folder, **{**found, "command": tuple(found["command"])})
    if run.code != 0:
        pytest.fail(f"the shared run ended with {run.code}:\n{run.out}\n{run.err}", pytrace=False)
    return run


def _run(folder: Path, told: Path) -> None:
    command = [sys.executable, "-m", "exporter", "run", str(TINY), "--output-dir", str(folder)]
    for case in CASES:
        command += ["--case", case]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"}
    environment[FOLDER_VARIABLE] = str(folder.parent / CACHE)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    part = told.with_name(f"{told.name}.part")
    text = {"command": command, "code": done.returncode, "out": done.stdout, "err": done.stderr}
    part.write_text(json.dumps(text), encoding="utf-8")
    os.replace(part, told)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """The finished run; failing it fails every test that needs it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return make_tiny_run(shared / "tiny_run")
