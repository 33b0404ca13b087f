"""Run a file under other releases of onnxruntime, each in an environment of its own.

Environments lie in the cache folder and are used again, see ``exporter.cache.environments``. A
release runs in a process of its own: one that dies of a file is a sentence.

    parent                                  the release's Python
    inputs as .npz, names as .json   ->     loads the file, runs every case
    outputs, or what went wrong      <-     outputs as .npz
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.cache.environments import FOLDER, environment, last_line, started
from exporter.cache.place import cache_folder
from exporter.core.errors import UserInputError
from exporter.core.files import temporary_folder
from exporter.core.tensors import Arrays

DEFAULT = ("1.31.1", "1.23.2", "1.22.1", "1.21.1", "1.20.1", "1.19.2")
_RUN_SECONDS = 600
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
    wanted = (f"onnxruntime=={release}", "numpy<2" if _is_old(release) else "numpy")
    with temporary_folder() as folder:
        root = (folder if place is None else place) / FOLDER
        with environment(root, wanted) as python:
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
        done = started([str(python), "-I", "-c", _RUN, str(folder)], _RUN_SECONDS)
    except subprocess.TimeoutExpired:
        return ReleaseRun(why=f"did not end within {_RUN_SECONDS} s")
    if done.returncode < 0:
        return ReleaseRun(why=f"died of signal {-done.returncode}")
    if done.returncode:
        return ReleaseRun(why=last_line(done.stderr) or f"exit code {done.returncode}")
    names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    outputs = []
    for at in range(len(cases)):
        with np.load(folder / f"out{at}.npz", allow_pickle=False) as arrays:
            outputs.append({name: arrays[f"arr_{i}"] for i, name in enumerate(names)})
    return ReleaseRun(outputs=tuple(outputs))


def _is_old(release: str) -> bool:
    """Built for numpy 1: before 1.19."""
    return tuple(map(int, release.split(".")[:2])) < (1, 19)
