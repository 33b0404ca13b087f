"""How long each node of a file takes, from onnxruntime's own profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.profile import KERNEL, profiled

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
    return profiled(path, deployment, inputs, runs=runs + 1, read=read_times)


def read_times(events: Sequence[dict]) -> NodeTimes:
    """The times that a profile shows; of several runs of a node the fastest."""
    best: dict[tuple[str, str, str], float] = {}
    for event in events:
        name, args = event.get("name", ""), event.get("args", {})
        if event.get("cat") != "Node" or not name.endswith(KERNEL):
            continue
        key = (name.removesuffix(KERNEL), args.get("op_name", ""), args.get("node_index", ""))
        seconds = float(event.get("dur", 0)) / 1e6
        best[key] = min(best.get(key, seconds), seconds)
    by_node: dict[str, float] = {}
    by_kind: dict[str, float] = {}
    for (name, kind, _), seconds in best.items():
        by_node[name] = by_node.get(name, 0.0) + seconds
        by_kind[kind] = by_kind.get(kind, 0.0) + seconds
    return NodeTimes(by_node=by_node, by_kind=by_kind)
