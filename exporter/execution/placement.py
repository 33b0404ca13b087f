"""Which nodes of a file ran on which provider, from onnxruntime's own profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.core.tensors import Arrays
from exporter.execution.deployment import PROVIDERS, Deployment
from exporter.execution.profile import KERNEL, profiled

_COPIES = ("MemcpyToHost", "MemcpyFromHost")
_SHORT = {full: name for name, full in PROVIDERS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a file's nodes ran.

    Attributes:
        nodes: provider -> how many nodes, copies left out.
        seconds: provider -> what its nodes took, by the profile: the host's time of each call.
            A device may go on working behind it.
        copies: kind of copy between devices -> how many nodes.
    """

    nodes: Mapping[str, int]
    seconds: Mapping[str, float]
    copies: Mapping[str, int]

    def share(self, provider: str) -> float | None:
        """Share of the time of all nodes; None when nothing was measured."""
        whole = sum(self.seconds.values())
        return self.seconds.get(provider, 0.0) / whole if whole else None


def placement(path: Path, deployment: Deployment, inputs: Arrays) -> Placement:
    """Run a file twice and read where the nodes of the second run were.

    Raises:
        UserInputError: the provider does not load.
        ArtifactError: onnxruntime refuses the file or writes no profile that can be read.
    """
    return profiled(path, deployment, inputs, runs=2, read=read_profile)


def read_profile(events: list[dict]) -> Placement:
    """The placement that a profile shows; of several runs of a node the last one counts.

    Args:
        events: the profile, a list of events in Chrome's trace format.
    """
    last: dict[str, tuple[str, str, float]] = {}
    for event in events:
        name, args = event.get("name", ""), event.get("args", {})
        if event.get("cat") != "Node" or not name.endswith(KERNEL) or "provider" not in args:
            continue
        key = f"{name}/{args.get('node_index', '')}"
        last[key] = (args["provider"], args.get("op_name", ""), float(event.get("dur", 0)) / 1e6)
    nodes: Counter[str] = Counter()
    copies: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    for full, op, duration in last.values():
        provider = _SHORT.get(full, full)
        seconds[provider] = seconds.get(provider, 0.0) + duration
        if op in _COPIES:
            copies[op] += 1
        else:
            nodes[provider] += 1
    return Placement(nodes=dict(nodes), seconds=seconds, copies=dict(copies))
