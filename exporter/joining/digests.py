"""What a value is made of, as a digest: equal digests are the same function of the same inputs.

    digest(value) = hash(operator, attributes, digests of what it reads)
    digest(weight) = hash(dtype, shape, bytes)

Names do not count, except those of the graph's inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np
import onnx

from exporter.core.operators import is_standard
from exporter.graph.attributes import attribute_values
from exporter.graph.index import GraphIndex
from exporter.graph.stored_tensors import whole_node

MOVES = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"})
"""Operators that show the same elements in another shape or order."""

_WEIGHT = 8
"""Elements from which a constant tells a layer from others."""


def root(graph: GraphIndex, name: str, kept: Collection[str] = ()) -> str:
    """The value that a value shows in another shape or order; itself where it is none.

    Args:
        kept: values that are what goes into their node, whatever the operator.
    """
    while name in graph.producer:
        node = graph.nodes[graph.producer[name]]
        moves = node.op_type in MOVES and is_standard(node)
        if not moves and name not in kept:
            return name
        name = node.input[0]
    return name


class Digests:
    """Digests of the values of a graph.

    Args:
        inputs: what a graph's input is called in both files, where that is not its own name.
    """

    def __init__(self, graph: GraphIndex, inputs: Mapping[str, str] | None = None):
        self._graph = graph
        self._versions = {opset.domain: opset.version for opset in graph.model.opset_import}
        self._found: dict[str, bytes] = {
            name: _hash(b"input", (inputs or {}).get(name, name).encode()) for name in graph.inputs
        }
        self._bodies: dict[int, bytes] = {}
        self.kept: frozenset[str] = frozenset()
        """Values that numbers have shown to be what goes in, whatever the operator."""
        for index in range(len(graph.nodes)):
            self._add(index)

    def of(self, name: str) -> bytes:
        """Digest of a value or an initialiser; b"" of what is left out."""
        if name not in self._found and name in self._graph.initializers:
            self._found[name] = self._graph.content(name)
        return self._found.get(name, b"")

    def body(self, index: int) -> bytes:
        """Digest of a node's operator and attributes alone."""
        if index not in self._bodies:
            self._bodies[index] = self._body(self._graph.nodes[index])
        return self._bodies[index]

    def root(self, name: str) -> str:
        """The value that a value shows in another shape or order; itself where it is none."""
        return root(self._graph, name, self.kept)

    def behind(self, nodes: Iterable[int], fed: Mapping[str, bytes]) -> dict[str, bytes]:
        """Digests of what some nodes make where some values are fed others' numbers.

        Args:
            nodes: in the order of the graph. fed: value -> the digest of what its readers get.
        """
        digests: dict[str, bytes] = {}

        def of(name: str) -> bytes:
            return fed.get(name) or digests.get(name) or self.of(name)

        for index in nodes:
            digests.update(self._made(index, of))
        return digests

    def _add(self, index: int) -> None:
        self._found |= self._made(index, self.of)

    def _made(self, index: int, of: Callable[[str], bytes]) -> dict[str, bytes]:
        node = self._graph.nodes[index]
        inner = [name for name in self._graph.reads[index] if name not in node.input]
        parts = [of(name) for name in (*node.input, *inner)]
        whole = _hash(self.body(index), *parts)
        if is_drawn(node):
            whole = _hash(whole, str(index).encode())  # no draw is another one's
        return {n: _hash(whole, str(slot).encode()) for slot, n in enumerate(node.output) if n}

    def _body(self, node: onnx.NodeProto) -> bytes:
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = self._versions.get(node.domain, self._versions.get(domain, 0))
        attributes = attribute_values(whole_node(node, self._graph.take_in), version)
        parts = [f"{name}=".encode() + attributes[name].bits for name in sorted(attributes)]
        return _hash(domain.encode(), node.op_type.encode(), *parts)


def one_language(left: GraphIndex, right: GraphIndex) -> bool:
    """Whether equal digests of two files are one function.

    Operators mean something else in another opset, functions what their file says, and what is
    drawn at random is another number each time.
    """
    graphs = (left, right)
    opsets = [
        {"" if o.domain == "ai.onnx" else o.domain: o.version for o in graph.model.opset_import}
        for graph in graphs
    ]
    shared = opsets[0].keys() & opsets[1].keys()
    return (
        all(opsets[0][domain] == opsets[1][domain] for domain in shared)
        and not any(graph.model.functions for graph in graphs)
        and not any(is_drawn(node) for graph in graphs for node in graph.nodes)
    )


def is_drawn(node: onnx.NodeProto) -> bool:
    """Whether a node gives other numbers each time."""
    return node.op_type.startswith(("Random", "Bernoulli", "Multinomial"))


def is_large(graph: GraphIndex, name: str) -> bool:
    """Whether a constant holds enough to tell a layer from others."""
    return int(np.prod(graph.initializers[name].dims, dtype=np.int64)) >= _WEIGHT


def _hash(*parts: bytes) -> bytes:
    whole = hashlib.blake2b(digest_size=16)
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.digest()
