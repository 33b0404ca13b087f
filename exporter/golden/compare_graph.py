"""Differences of a graph to the one that was judged when a golden was recorded.

Some faults no number shows: an epsilon in a deep block, a threshold that nothing crosses. The
golden's numbers come from PyTorch alone; beside them it holds digests of the nodes of the file
that PyTorch's numbers were found to agree with, layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.golden.outcome import Changed, LayerMove
from exporter.golden.records import GoldenTap, GraphNode

MAKERS = ("torch", "onnx", "onnxscript", "onnx-ir", "onnxsim", "funasr", "silero-vad")
"""Packages that decide what an exported graph looks like."""


def compare_graph(
    recorded: tuple[GraphNode, ...], now: Iterable[GraphNode], taps: tuple[GoldenTap, ...]
) -> tuple[LayerMove, ...]:
    """List the nodes that differ, in the order of the program's taps.

    Nodes are joined by the name of what they compute; a node that was added counts at the tap
    that it leads to.
    """
    present = {node.name: node for node in now}
    found: list[tuple[int, LayerMove]] = []
    for node in recorded:
        other = present.pop(node.name, None)
        if other is None:
            found.append(_at(node, taps, f"{node.op} '{node.name}' is gone"))
        elif other.op != node.op:
            found.append(_at(node, taps, f"{node.op} '{node.name}' is now {other.op}"))
        elif other.constants != node.constants:
            reason = f"{node.op} '{node.name}' reads other constants or weights"
            found.append(_at(node, taps, reason))
        elif other.form != node.form:
            reason = f"{node.op} '{node.name}' has other attributes or inputs"
            found.append(_at(node, taps, reason))
    found += [_at(n, taps, f"{n.op} '{n.name}' was added") for n in present.values()]
    found.sort(key=lambda item: item[0])
    return tuple(move for _, move in found)


def structure_decides(environment: Iterable[Changed]) -> bool:
    """False when a package that makes the graph has another version than at recording."""
    return not any(change.what in MAKERS for change in environment)


def _at(node: GraphNode, taps: tuple[GoldenTap, ...], reason: str) -> tuple[int, LayerMove]:
    position = node.tap if 0 <= node.tap < len(taps) else len(taps)
    tap = taps[position].tap if position < len(taps) else None
    return position, LayerMove(
        tap=tap.name if tap else node.name,
        module=tap.module if tap else "",
        op=tap.op if tap else node.op,
        source=tap.source if tap else "",
        observed=None,
        limit=None,
        reason=reason,
        by="graph",
    )
