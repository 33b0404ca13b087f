"""Digests of the nodes of a graph: what they compute from, and with which constants.

Two files have the same fingerprints exactly when ``diff_structure`` finds no difference between
their nodes; names of nodes and initialisers, metadata and order do not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import onnx

from exporter.graph.attributes import attribute_values
from exporter.graph.index import GraphIndex
from exporter.graph.nearest import NearestTap

_LENGTH = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePrint:
    """One node.

    Attributes:
        name: its first output. op: its operator.
        form: digest of operator, names of the values that it reads and computes, attributes.
        constants: digest of dtype, shape and bits of the initialisers that it reads.
        tap: nearest value of ``taps`` at or behind it; "" if it leads to none.
    """

    name: str
    op: str
    form: str
    constants: str
    tap: str


def fingerprint(graph: GraphIndex, taps: Collection[str]) -> tuple[NodePrint, ...]:
    """Fingerprints of all nodes, in graph order.

    Args:
        graph: external data is read where it is mapped.
        taps: ONNX names of the values that people know.
    """
    versions = {entry.domain: entry.version for entry in graph.model.opset_import}
    nearest = NearestTap(graph, taps)
    digests: dict[str, str] = {}
    return tuple(
        NodePrint(
            name=next((name for name in node.output if name), node.name),
            op=node.op_type,
            form=_form(graph, node, versions.get(node.domain, 0)),
            constants=_constants(graph, node, digests),
            tap=nearest.of(node) or "",
        )
        for node in graph.nodes
    )


def _form(graph: GraphIndex, node: onnx.NodeProto, version: int) -> str:
    digest = hashlib.sha256(f"{node.domain}:{node.op_type}".encode())
    for name in node.input:
        read = "a constant" if name in graph.initializers else f"value {name}"
        digest.update(f"|{read if name else 'nothing'}".encode())
    for name in node.output:
        digest.update(f"|to {name}".encode())
    for name, value in sorted(attribute_values(node, version).items()):
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
