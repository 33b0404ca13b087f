"""Run a file that this program did not make in a process of its own, before it is run here.

onnxruntime may die of such a file (a division in a constant is enough), take all memory or never
end. In a child that is a sentence. A file that loads and runs there is then run here, where its
values are looked at.

    parent                                   child
    inputs as .npz, what to do as .json  ->  loads the file, runs every case, as deployed
    watches memory and time              <-  its pieces too; a line before each step, then "done"

What onnxruntime raises in the child is no finding of the trial: it is raised again here, where it
is told apart.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter.core.children import child_process, end_with_parent
from exporter.core.errors import ArtifactError, UserInputError
from exporter.core.files import temporary_folder
from exporter.core.memory import available_memory, resident_bytes
from exporter.core.tensors import Arrays, Case
from exporter.execution.deployment import Deployment

if TYPE_CHECKING:
    from exporter.graph.index import GraphIndex

_ROOT = Path(__file__).resolve().parents[2]
# Not from the folder that the user stands in: it may hold an onnx.py.
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from exporter.execution import trial; "
_CHILD += "trial.child(sys.argv[2])"
_JOB, _DONE = "job.json", "done"
_LOOK_SECONDS = 0.1
_MOST_PIECES = 500
"""Graphs of pieces that the child tries, each of about as many nodes."""
_KEPT_FREE = 0.1
"""Share of the free memory that the child may not take: this process needs some, too."""


SECONDS, MEMORY = "EXPORT_VERIFY_TRIAL_SECONDS", "EXPORT_VERIFY_TRIAL_GIB"
"""Environment variables that set other limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the child may take: seconds for each step (types, loading, a case), resident bytes.

    ``why`` tells where the limit of the memory comes from, for the message.
    """

    step_seconds: float = 600.0
    bytes: int | None = None
    why: str = "are free"

    @classmethod
    def of_this_machine(cls) -> Limits:
        """What the environment says; else ten minutes a step, and the memory that is free now.

        Raises:
            UserInputError: the environment says something that is no limit.
        """
        seconds, gib = _limit(SECONDS) or cls().step_seconds, _limit(MEMORY)
        if gib is not None:
            return cls(step_seconds=seconds, bytes=int(gib * 2**30), why=f"{MEMORY} allows")
        kept = int(available_memory() * (1 - _KEPT_FREE))
        return cls(step_seconds=seconds, bytes=kept)


def _limit(name: str) -> float | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UserInputError(f"{name} is '{text[:40]}'", remedy="give a number above 0")
    return value


def try_file(
    path: Path,
    deployments: Iterable[Deployment],
    cases: Iterable[Case],
    *,
    limits: Limits | None = None,
    command: Sequence[str] | None = None,
) -> None:
    """Load and run a file in a child, as it will be run here.

    Args:
        path: the file. cases: what it is run on, all calls of each.
        limits: of this machine by default.
        command: the child's, for tests; it gets the folder of its job as its last argument.

    Raises:
        ArtifactError: the child died, or came to a limit; says which, and at what.
    """
    limits = limits or Limits.of_this_machine()
    command = command or [sys.executable, "-P", "-c", _CHILD, str(_ROOT)]
    with temporary_folder() as folder:
        _write_job(folder, path, deployments, cases)
        with child_process([*command, str(folder)]) as child:
            _watch(child, path, limits)


def _write_job(
    folder: Path, path: Path, deployments: Iterable[Deployment], cases: Iterable[Case]
) -> None:
    rows = []
    for number, case in enumerate(cases):
        calls = []
        for index, inputs in enumerate((case.inputs, *case.later)):
            file = f"{number}.{index}.npz"
            # By position: an input may be called like a parameter of savez.
            np.savez(folder / file, *map(np.asarray, inputs.values()))
            calls.append([file, list(inputs)])
        rows.append([case.name, calls])
    job = {
        "path": str(path.resolve()),
        "parent": os.getpid(),
        "deployments": [asdict(deployment) for deployment in deployments],
        "cases": rows,
    }
    (folder / _JOB).write_text(json.dumps(job), encoding="utf-8")


def _watch(child: subprocess.Popen[str], path: Path, limits: Limits) -> None:
    """Wait for the child's end; raises where that is not the one that was meant."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(child, lines), daemon=True).start()
    step, began = "started", time.monotonic()
    while True:
        with contextlib.suppress(queue.Empty):
            line = lines.get(timeout=_LOOK_SECONDS)
            if line is None:
                break
            step, began = line, time.monotonic()
        if time.monotonic() - began > limits.step_seconds:
            what = f"did not end within {limits.step_seconds:g} s"
            raise _stopped(path, what, step, raise_it=SECONDS)
        taken = resident_bytes(child.pid) or 0
        if limits.bytes is not None and taken > limits.bytes:
            what = f"took more than the {limits.bytes / 2**30:.1f} GiB of memory that {limits.why}"
            raise _stopped(path, what, step, raise_it=MEMORY)
    code = child.wait()
    if code == 0 and step == _DONE:
        return
    if code < 0:
        # The system's own way to end what takes too much memory.
        why = " (the system was short of memory, or somebody ended it)" if code == -9 else ""
        raise _stopped(path, f"died of {_signal(-code)}{why}", step)
    raise _stopped(path, f"ended with exit code {code}, without a word", step)


def _read(child: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    for line in child.stdout or ():
        lines.put(line.rstrip("\n"))
    lines.put(None)


def _stopped(path: Path | str, what: str, step: str, *, raise_it: str = "") -> ArtifactError:
    more = f"; the environment variable {raise_it} sets another limit" if raise_it else ""
    return ArtifactError(
        f"onnxruntime {what} as it {step}; it ran in a process of its own, to try this file",
        where=str(path),
        remedy="nothing of it was judged; export the file again, or try another onnxruntime:"
        f" whoever loads it as it is can end in the same way{more}",
    )


def stopped(
    path: Path | str,
    *,
    signal_number: int | None = None,
    limits: Limits | None = None,
    stuck: bool = False,
) -> ArtifactError:
    """Why a process in which a whole command looks at a file was ended, in words.

    Args:
        signal_number: of what it died. limits: those that it had. stuck: it came to the one of
            a step's time, and not to that of memory.
    """
    if signal_number is not None:
        why = " (the system was short of memory, or somebody ended it)" * (signal_number == 9)
        return _stopped(path, f"died of {_signal(signal_number)}{why}", "was at work on it")
    limits_used = limits or Limits()
    if stuck:
        what = f"did not end within {limits_used.step_seconds:g} s"
        return _stopped(path, what, "was at work on it", raise_it=SECONDS)
    gib = (limits_used.bytes or 0) / 2**30
    what = f"took more than the {gib:.1f} GiB of memory that {limits_used.why}"
    return _stopped(path, what, "was at work on it", raise_it=MEMORY)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# -- the child -----------------------------------------------------------------------------------


def child(folder_name: str) -> None:
    """Do the job that lies in a folder; what onnxruntime raises ends it early, and well."""
    no_core_dump()
    folder = Path(folder_name)
    job = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    end_with_parent(job["parent"])
    # What cannot be inferred is said by whoever asks for it next.
    with contextlib.suppress(Exception):
        _infer(Path(job["path"]))
    for saved in job["deployments"]:
        settings = tuple((key, value) for key, value in saved.pop("settings"))
        deployment = Deployment(**saved, settings=settings)
        # onnxruntime refuses the file, a case, a provider: that is said by whoever runs it next.
        with contextlib.suppress(Exception):
            _run(Path(job["path"]), deployment, job["cases"], folder)
    _say(_DONE)


def _infer(path: Path) -> None:
    """Infer types as whoever judges the file does; functions in functions may take for ever."""
    from exporter.graph.onnx_file import open_graph
    from exporter.graph.value_types import value_types

    _say("inferred its types")
    value_types(open_graph(path))


def _run(path: Path, deployment: Deployment, cases: list, folder: Path) -> None:
    from exporter.execution.onnx_runs import FileRun
    from exporter.graph.onnx_file import open_graph

    _say(f"loaded the file ({deployment.label()})")
    session = FileRun(path, deployment)
    plain = FileRun(path, replace(deployment, level="disable"))
    graph = open_graph(path)
    kept: dict = {}
    weights: dict = {}
    for name, calls in cases:
        _say(f"ran the case '{name}' ({deployment.label()})")
        for file, names in calls:
            with np.load(folder / file, allow_pickle=False) as arrays:
                inputs = {name: arrays[f"arr_{at}"] for at, name in enumerate(names)}
            session.run(inputs)
            # Layers are compared in windows of the file, where less is fused.
            plain.run(inputs)
            _say(f"ran pieces of it on the case '{name}' ({deployment.label()})")
            _run_pieces(graph, inputs, replace(deployment, level="disable"), kept, weights)


def _run_pieces(
    graph: GraphIndex,
    inputs: Arrays,
    deployment: Deployment,
    kept: dict | None = None,
    weights: dict | None = None,
) -> None:
    """Every node in a graph of its own, or a few together: a piece may end as the whole does not.

    What onnxruntime refuses of it is no finding here.

    Args:
        kept, weights: sessions and their weights, for the next case.
    """
    from exporter.execution.onnx_windows import OnnxWindows

    names = [name for node in graph.nodes for name in node.output if name]
    size = -(-len(names) // _MOST_PIECES) or 1
    pieces = [names[at : at + size] for at in range(0, len(names), size)]
    windows = OnnxWindows(
        graph, inputs, deployment, taps=frozenset(names), sessions=kept, weights=weights
    )
    for number, piece in enumerate(pieces, 1):
        windows.advance(piece, last=number == len(pieces))


def _say(text: str) -> None:
    sys.stdout.write(text.replace("\n", " ") + "\n")
    sys.stdout.flush()


def no_core_dump() -> None:
    """A crash that is expected leaves no image of its memory."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
