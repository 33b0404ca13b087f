"""Run a file under other releases of onnxruntime, each in an environment of its own.

Environments lie in the cache folder and are used again; the most recently used ones are kept. A
release runs in a process of its own: one that dies of a file is a sentence.

    parent                                  the release's Python
    inputs as .npz, names as .json   ->     loads the file, runs every case
    outputs, or what went wrong      <-     outputs as .npz
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.cache.place import cache_folder
from exporter.core.errors import UserInputError
from exporter.core.files import temporary_folder
from exporter.core.lock import locked
from exporter.core.tensors import Arrays

DEFAULT = ("1.31.1", "1.23.2", "1.22.1", "1.21.1", "1.20.1", "1.19.2")
MOST_KEPT = 8
"""Environments in the cache folder; each is about 150 MB."""
_INSTALL_SECONDS, _RUN_SECONDS, _WAIT_SECONDS = 600, 600, 900
_FOLDER, _READY = "onnxruntime", "ready"
_RELEASE = re.compile(r"\d+\.\d+(\.\d+)?")
_RUN = """
import json, sys
import numpy as np
import onnxruntime as ort
job = json.load(open(sys.argv[1] + "/job.json", encoding="utf-8"))
levels = {"disable": 0, "basic": 1, "extended": 2, "all": 99}
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel(levels[job["level"]])
options.intra_op_num_threads = job["threads"]
options.log_severity_level = 4
session = ort.InferenceSession(job["path"], options, providers=["CPUExecutionProvider"])
names = [value.name for value in session.get_outputs()]
for at, inputs in enumerate(job["inputs"]):
    with np.load(f"{sys.argv[1]}/{at}.npz") as held:
        feeds = {name: held[f"arr_{i}"] for i, name in enumerate(inputs)}
    found = session.run(names, feeds)
    np.savez(f"{sys.argv[1]}/out{at}.npz", *found)
json.dump(names, open(sys.argv[1] + "/names.json", "w", encoding="utf-8"))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRun:
    """Outputs by name, one per case; none where the release could not run the file, and why."""

    outputs: tuple[dict[str, np.ndarray], ...] = ()
    why: str = ""


def check_releases(releases: Sequence[str]) -> tuple[str, ...]:
    """The releases, each once.

    Raises:
        UserInputError: one of them is no number of a release.
    """
    for release in releases:
        if not _RELEASE.fullmatch(release):
            raise UserInputError(
                f"--versions: '{release}' is no release of onnxruntime",
                remedy=f"for example --versions {DEFAULT[1]},{DEFAULT[3]}",
            )
    return tuple(dict.fromkeys(releases))


def run_release(
    release: str, path: Path, cases: Sequence[Arrays], *, level: str, threads: int
) -> ReleaseRun:
    """Run a file under another release of onnxruntime, on the CPU.

    Args:
        cases: inputs by the file's names. level, threads: as in a deployment.

    Raises:
        UserInputError: the release cannot be installed.
    """
    place = cache_folder()
    with temporary_folder() as folder:
        root = folder / _FOLDER if place is None else place / _FOLDER
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f"{release}.lock", wait=_WAIT_SECONDS, kept=True) as ours:
            if not ours:
                raise UserInputError(
                    f"the environment of onnxruntime {release} is in use for {_WAIT_SECONDS} s",
                    where=str(root),
                    remedy="wait for the other process, or end it",
                )
            python = _environment(root, release)
            return _run(python, folder, path, cases, level, threads)


def _run(
    python: Path, folder: Path, path: Path, cases: Sequence[Arrays], level: str, threads: int
) -> ReleaseRun:
    for at, inputs in enumerate(cases):
        # By position: an input may be called like a parameter of savez.
        np.savez(folder / f"{at}.npz", *map(np.asarray, inputs.values()))
    job = {
        "path": str(path.resolve()),
        "inputs": [list(inputs) for inputs in cases],
        "level": level,
        "threads": threads,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    try:
        done = _started([str(python), "-I", "-c", _RUN, str(folder)], _RUN_SECONDS)
    except subprocess.TimeoutExpired:
        return ReleaseRun(why=f"did not end within {_RUN_SECONDS} s")
    if done.returncode < 0:
        return ReleaseRun(why=f"died of signal {-done.returncode}")
    if done.returncode:
        return ReleaseRun(why=_last_line(done.stderr) or f"exit code {done.returncode}")
    names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    found = []
    for at in range(len(cases)):
        with np.load(folder / f"out{at}.npz", allow_pickle=False) as held:
            found.append({name: held[f"arr_{i}"] for i, name in enumerate(names)})
    return ReleaseRun(outputs=tuple(found))


def _environment(root: Path, release: str) -> Path:
    """The Python of a release's environment; made where there is none."""
    home = root / release
    python = home / "bin" / "python"
    if not python.exists():
        python = home / "Scripts" / "python.exe"
    ready = home / _READY
    if ready.is_file() and python.exists():
        ready.touch()
        return python
    shutil.rmtree(home, ignore_errors=True)
    _make_room(root)
    venv.create(home, with_pip=True)
    python = next(p for p in (home / "bin" / "python", python) if p.exists())
    wanted = [f"onnxruntime=={release}", "numpy<2" if _is_old(release) else "numpy"]
    command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *wanted]
    try:
        done = _started(command, _INSTALL_SECONDS)
        failed = _last_line(done.stderr) if done.returncode else ""
    except subprocess.TimeoutExpired:
        failed = f"pip did not end within {_INSTALL_SECONDS} s"
    if failed:
        shutil.rmtree(home, ignore_errors=True)
        raise UserInputError(
            f"onnxruntime {release} cannot be installed: {failed}",
            remedy="check the network and that there is such a release for this Python, or name"
            " others: --versions 1.23.2,1.20.1",
        )
    ready.touch()
    return python


def _is_old(release: str) -> bool:
    """Built for numpy 1: before 1.19."""
    return tuple(map(int, release.split(".")[:2])) < (1, 19)


def _make_room(root: Path) -> None:
    """Leave room for one more: the environments that were not used for longest go."""
    held = sorted(root.glob(f"*/{_READY}"), key=lambda ready: ready.stat().st_mtime)
    for ready in held[: max(0, len(held) - MOST_KEPT + 1)]:
        shutil.rmtree(ready.parent, ignore_errors=True)


def _started(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - commands are made by this package
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
