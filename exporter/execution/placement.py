"""Which nodes of a file ran on which provider, from onnxruntime's own profile."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.core.errors import ArtifactError
from exporter.core.files import temporary_folder
from exporter.core.tensors import Arrays
from exporter.execution.deployment import PROVIDERS, Deployment
from exporter.execution.ort_session import open_session, session_options

_COPIES = ("MemcpyToHost", "MemcpyFromHost")
_KERNEL = "_kernel_time"
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
    with temporary_folder() as folder:
        options = session_options(deployment)
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        session = open_session(path, options, deployment)
        names = [value.name for value in session.get_inputs()]
        for _ in range(2):
            session.run(None, {name: inputs[name] for name in names})
        text = Path(session.end_profiling()).read_text(encoding="utf-8")
    try:
        return read_profile(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"onnxruntime's profile cannot be read ({error})", where=str(path)
        ) from error


def read_profile(events: list[dict]) -> Placement:
    """The placement that a profile shows; of several runs of a node the last one counts.

    Args:
        events: the profile, a list of events in Chrome's trace format.
    """
    last: dict[str, tuple[str, str, float]] = {}
    for event in events:
        name, args = event.get("name", ""), event.get("args", {})
        if event.get("cat") != "Node" or not name.endswith(_KERNEL) or "provider" not in args:
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
