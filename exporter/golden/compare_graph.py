"""Differences of a graph to the one that was judged when a golden was recorded.

Some faults no number shows: an epsilon in a deep block, a threshold that nothing crosses. The
golden's numbers come from PyTorch alone; beside them it holds digests of the nodes of the file
that PyTorch's numbers were found to agree with, layer by layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import onnx

from exporter.core.tensors import PlannedTap
from exporter.golden.outcome import Changed, LayerMove
from exporter.golden.values import GraphNode
from exporter.graph.attributes import attribute_values
from exporter.graph.index import GraphIndex
from exporter.graph.nearest import NearestTap
from exporter.graph.stored_tensors import whole_node

MAKERS = ("torch", "onnx", "onnxscript", "onnx-ir", "onnxsim", "funasr", "silero-vad")
"""Packages that decide what an exported graph looks like."""
_LENGTH = 12


def node_prints(graph: GraphIndex, taps: Sequence[PlannedTap]) -> tuple[GraphNode, ...]:
    """Digests of all nodes, in graph order: what they compute from, and with which constants.

    Two files have the same ones exactly when ``diff_structure`` finds no difference between their
    nodes; names of nodes and initialisers, metadata and order do not matter.
    """
    positions = {tap.onnx_name: index for index, tap in enumerate(taps)}
    versions = {entry.domain: entry.version for entry in graph.model.opset_import}
    nearest = NearestTap(graph, positions)
    digests: dict[str, str] = {}
    return tuple(
        GraphNode(
            name=next((name for name in node.output if name), node.name),
            op=node.op_type,
            form=_form(graph, node, versions.get(node.domain, 0)),
            constants=_constants(graph, node, digests),
            tap=positions.get(nearest.of(node) or "", -1),
        )
        for node in graph.nodes
    )


def compare_graph(
    recorded: tuple[GraphNode, ...], now: Iterable[GraphNode], taps: tuple[PlannedTap, ...]
) -> tuple[LayerMove, ...]:
    """List the nodes that differ, in the order of the program's taps.

    Nodes are joined by the name of what they compute; a node that was added counts at the tap
    that it leads to.
    """
    present = {node.name: node for node in now}
    moves: list[tuple[int, LayerMove]] = []
    for node in recorded:
        other = present.pop(node.name, None)
        if other is None:
            moves.append(_at(node, taps, f"{node.op} '{node.name}' is gone"))
        elif other.op != node.op:
            moves.append(_at(node, taps, f"{node.op} '{node.name}' is now {other.op}"))
        elif other.constants != node.constants:
            reason = f"{node.op} '{node.name}' reads other constants or weights"
            moves.append(_at(node, taps, reason))
        elif other.form != node.form:
            reason = f"{node.op} '{node.name}' has other attributes or inputs"
            moves.append(_at(node, taps, reason))
    moves += [_at(n, taps, f"{n.op} '{n.name}' was added") for n in present.values()]
    moves.sort(key=lambda item: item[0])
    return tuple(move for _, move in moves)


def structure_decides(environment: Iterable[Changed]) -> bool:
    """False when a package that makes the graph has another version than at recording."""
    return not any(change.what in MAKERS for change in environment)


def _at(node: GraphNode, taps: tuple[PlannedTap, ...], reason: str) -> tuple[int, LayerMove]:
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


def _form(graph: GraphIndex, node: onnx.NodeProto, version: int) -> str:
    digest = hashlib.sha256(f"{node.domain}:{node.op_type}".encode())
    for name in node.input:
        read = "a constant" if name in graph.initializers else f"value {name}"
        digest.update(f"|{read if name else 'nothing'}".encode())
    for name in node.output:
        digest.update(f"|to {name}".encode())
    for name, value in sorted(attribute_values(whole_node(node, graph.take_in), version).items()):
        digest.update(f"|{name}=".encode() + hashlib.sha256(value.bits).digest())
    return digest.hexdigest()[:_LENGTH]


def _constants(graph: GraphIndex, node: onnx.NodeProto, known: dict[str, str]) -> str:
    read = [name for name in node.input if name in graph.initializers]
    for name in read:
        if name not in known:
            known[name] = _digest(graph, name)
    text = "|".join(known[name] for name in read)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH] if read else ""


def _digest(graph: GraphIndex, name: str) -> str:
    array = graph.array(name)
    digest = hashlib.sha256(f"{array.dtype.name}{list(array.shape)}".encode())
    flat = array.reshape(-1)
    if array.dtype == object:  # strings
        digest.update(repr(flat.tolist()).encode())
    else:
        step = 1 << 24
        for start in range(0, flat.size, step):
            digest.update(flat[start : start + step].tobytes())
    return digest.hexdigest()
