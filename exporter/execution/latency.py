"""How long a file takes as it is deployed, and how much memory: in a process of its own, in turns.

The process holds nothing but onnxruntime and the file. Sessions of all deployments are made in it
one after the other, and then run in turn, so that whatever else the machine does meets all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from exporter.core.children import child_process, end_with_parent
from exporter.core.files import temporary_folder
from exporter.core.memory import resident_bytes
from exporter.execution.deployment import Deployment

ROUNDS = 5
_MOST_SECONDS = 10.0
"""What all rounds together may take; one is always run."""
_ROOT = Path(__file__).resolve().parents[2]
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from exporter.execution import latency; "
_CHILD += "latency.child(sys.argv[2])"
_JOB, _INPUTS = "job.json", "inputs.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What a file takes on one deployment.

    Attributes:
        deployment: its label. rounds: runs of which the figures are, the first one left out.
        load_seconds: until the session is made. seconds: of a run, the median; least: the fastest.
        memory_bytes: resident memory that session and first run added; None where nobody can tell.
    """

    deployment: str
    rounds: int
    load_seconds: float
    seconds: float
    least: float
    memory_bytes: int | None


def measure_latency(
    path: Path, deployments: Iterable[Deployment], inputs: Mapping[str, np.ndarray]
) -> tuple[Latency, ...] | None:
    """Run a file in turns; None where that cannot be done (its verdict is somebody else's matter).

    Args:
        inputs: of one run, every input by name.
    """
    with temporary_folder() as folder:
        np.savez(folder / _INPUTS, *map(np.asarray, inputs.values()))
        job = {
            "path": str(path.resolve()),
            "parent": os.getpid(),
            "names": list(inputs),
            "deployments": [asdict(deployment) for deployment in deployments],
        }
        (folder / _JOB).write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-P", "-c", _CHILD, str(_ROOT), str(folder)]
        try:
            with child_process(command) as running:
                said, _ = running.communicate()
            rows = json.loads(said) if running.returncode == 0 else None
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
    return None if rows is None else tuple(Latency(**row) for row in rows)


def in_turns(
    runs: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    most_seconds: float = _MOST_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every run, all of them once in every round; no round begins behind the limit."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    began = clock()
    for number in range(rounds):
        if number and clock() - began >= most_seconds:
            break
        for name, run in runs.items():
            start = clock()
            run()
            taken[name].append(clock() - start)
    return taken


def child(folder_name: str) -> None:
    """Do the job that lies in a folder; prints what was found as JSON."""
    from exporter.execution.ort_session import open_session, session_options

    folder = Path(folder_name)
    job = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    end_with_parent(job["parent"])
    with np.load(folder / _INPUTS) as arrays:
        feeds = dict(zip(job["names"], (arrays[name] for name in arrays.files), strict=True))
    loads, added, runs = {}, {}, {}
    for saved in job["deployments"]:
        settings = tuple((key, value) for key, value in saved.pop("settings"))
        deployment = Deployment(**saved, settings=settings)
        before, start = resident_bytes(), time.perf_counter()
        session = open_session(Path(job["path"]), session_options(deployment), deployment)
        label = deployment.label()
        loads[label] = time.perf_counter() - start
        wanted = {value.name for value in session.get_inputs()}
        mine = {name: array for name, array in feeds.items() if name in wanted}

        def run(session: object = session, mine: Mapping[str, np.ndarray] = mine) -> object:
            return session.run(None, mine)  # type: ignore[attr-defined]

        run()
        after = resident_bytes()
        added[label] = None if before is None or after is None else max(0, after - before)
        runs[label] = run
    rows = [
        Latency(
            deployment=label,
            rounds=len(taken),
            load_seconds=loads[label],
            seconds=median(taken),
            least=min(taken),
            memory_bytes=added[label],
        )
        for label, taken in in_turns(runs).items()
    ]
    print(json.dumps([asdict(row) for row in rows]))  # noqa: T201 - what the parent reads
