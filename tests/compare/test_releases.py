"""A file under other releases of onnxruntime: judged, or said why not; never a pass unseen."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from exporter import cli
from exporter.cache import environments
from exporter.core import children
from exporter.core.errors import UserInputError
from exporter.execution.onnx_runs import FileRun
from exporter.execution.releases import ReleaseRun, run_release
from exporter.flows.compare import CompareOptions, compare
from tests.support import other_tools as tools


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools.legacy(tmp_path_factory.mktemp("legacy"))


def test_outputs_of_a_release_are_judged(legacy: Path, monkeypatch: pytest.MonkeyPatch):
    wrong = np.float32(0)

    def run(release: str, path: Path, cases, *, level: str, threads: int) -> ReleaseRun:
        if release == "1.19.2":
            return ReleaseRun(why="Unsupported model IR version")
        found = [FileRun(path).run(case) for case in cases]
        off = wrong if release == "1.20.1" else np.float32(0)
        return ReleaseRun(outputs=tuple({n: v + off for n, v in held.items()} for held in found))

    monkeypatch.setattr("exporter.flows.compare.run_release", run)
    options = CompareOptions(releases=("1.21.1", "1.20.1"))
    assert compare(legacy, legacy, options).exit_code == 0
    wrong = np.float32(0.01)
    report = compare(legacy, legacy, options)
    found = {row.deployment: row.verdict for row in report.outputs}
    assert report.exit_code == 1
    assert found["onnxruntime 1.20.1"] == "fail" and found["onnxruntime 1.21.1"] == "pass"
    report = compare(legacy, legacy, CompareOptions(releases=("1.19.2",)))
    row = next(row for row in report.outputs if "1.19.2" in row.deployment)
    assert report.exit_code == 1
    assert row.verdict == "not run" and "IR version" in row.reason


def test_a_release_that_cannot_be_installed_is_said(
    legacy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv("EXPORT_VERIFY_CACHE", str(tmp_path))

    def create(home: Path, *, with_pip: bool) -> None:
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "python").touch()

    def started(command: list[str], seconds: float = 0) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution")

    monkeypatch.setattr(environments, "uv_program", lambda: None)
    monkeypatch.setattr(environments.venv, "create", create)
    monkeypatch.setattr(environments, "started", started)
    with pytest.raises(UserInputError, match="No matching distribution"):
        run_release("1.0.0", legacy, [], level="all", threads=1)
    # Nothing is left that the next run would take for an environment.
    assert not list((tmp_path / "environments").glob("*/"))
    monkeypatch.setattr(children, "_GUARDED", [True])  # what is patched here is not in a child
    assert cli.main(["compare", str(legacy), "--versions", "1.0.0"]) == 2
    assert "check the network" in capsys.readouterr().err


def test_the_environments_that_were_used_last_are_kept(tmp_path: Path):
    for number in range(environments.MOST_KEPT + 2):
        ready = tmp_path / f"1.{number}.0" / "ready"
        ready.parent.mkdir()
        ready.touch()
        os.utime(ready, (number, number))
    environments.make_room(tmp_path)
    left = sorted(path.parent.name for path in tmp_path.glob("*/ready"))
    assert len(left) == environments.MOST_KEPT - 1
    assert "1.0.0" not in left and "1.2.0" not in left and "1.9.0" in left
