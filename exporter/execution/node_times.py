"""How long each node of a file takes, from onnxruntime's own profile."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.core.errors import ArtifactError
from exporter.core.files import temporary_folder
from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.execution.ort_session import open_session, session_options

_ENDING = "_kernel_time"
RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTimes:
    """Seconds of one run, the least of several.

    Attributes:
        by_node: name of a node as onnxruntime runs it. by_kind: operator, over all of its nodes.
    """

    by_node: Mapping[str, float]
    by_kind: Mapping[str, float]

    @property
    def total(self) -> float:
        """All nodes together."""
        return sum(self.by_kind.values())


def node_times(path: Path, inputs: Arrays, deployment: Deployment, runs: int = RUNS) -> NodeTimes:
    """Profile a file.

    Raises:
        ArtifactError: onnxruntime refuses the file or writes no profile that can be read.
    """
    with temporary_folder() as folder:
        options = session_options(deployment)
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        session = open_session(path, options, deployment)
        names = [value.name for value in session.get_inputs()]
        for _ in range(runs + 1):
            session.run(None, {name: inputs[name] for name in names})
        text = Path(session.end_profiling()).read_text(encoding="utf-8")
    try:
        return read_times(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"onnxruntime's profile cannot be read ({error})", where=str(path)
        ) from error


def read_times(events: Sequence[dict]) -> NodeTimes:
    """The times that a profile shows; of several runs of a node the fastest."""
    best: dict[tuple[str, str, str], float] = {}
    for event in events:
        name, args = event.get("name", ""), event.get("args", {})
        if event.get("cat") != "Node" or not name.endswith(_ENDING):
            continue
        key = (name.removesuffix(_ENDING), args.get("op_name", ""), args.get("node_index", ""))
        seconds = float(event.get("dur", 0)) / 1e6
        best[key] = min(best.get(key, seconds), seconds)
    by_node: dict[str, float] = {}
    by_kind: dict[str, float] = {}
    for (name, kind, _), seconds in best.items():
        by_node[name] = by_node.get(name, 0.0) + seconds
        by_kind[kind] = by_kind.get(kind, 0.0) + seconds
    return NodeTimes(by_node=by_node, by_kind=by_kind)


def seconds_of(path: Path, inputs: Arrays, deployment: Deployment, runs: int = RUNS) -> float:
    """Wall-clock seconds of one run of a file as it is deployed, the least of several."""
    run = FileRun(path, deployment)
    run.run(inputs)
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        run.run(inputs)
        found.append(time.perf_counter() - began)
    return min(found)
