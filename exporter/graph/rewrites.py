"""Which differences between a file and the one it descends from may be the work of an optimiser.

An optimiser joins ops with their neighbours: BatchNormalization into Conv, nine nodes into one
LayerNormalization, a constant into the product behind it. Where it changes a constant, a node
beside it goes or becomes another. A weight or an attribute that is another one at a node whose
neighbours all stand where they stood was changed by something else, and often no number shows it:
an epsilon, a threshold that nothing crosses, a weight that no input reaches.

    expected   [Conv w]  -> [BatchNormalization] -> [Relu]
    rewritten  [Conv w'] -------------------------> [Relu]      w' is explained
    tampered   [Conv w'] -> [BatchNormalization] -> [Relu]      w' stands alone

Epsilons are carried over whatever becomes of a node: one that the export does not hold anywhere was
never in the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx

from exporter.graph.difference_kinds import Difference, Kind
from exporter.graph.index import GraphIndex

_CONSTANTS = frozenset({"attribute", "constant", "weight"})
"""Kinds that no optimiser changes at a node that it leaves where it is."""
_NORMS = frozenset(
    "BatchNormalization InstanceNormalization GroupNormalization LayerNormalization"
    " RMSNormalization".split()
)
_DEFAULT = float(np.float32(1e-5))
"""Epsilon of these where they do not say it."""
_PROMISES = frozenset({"interface"})
"""Kinds that whoever uses the file relies on, whatever was done inside."""


def unexplained(
    expected: GraphIndex, actual: GraphIndex, differences: Sequence[Difference]
) -> tuple[bool, ...]:
    """For every difference: True when no rewriting beside it explains it.

    Args:
        expected, actual: the graphs of ``diff_structure``, whose result ``differences`` is.
    """
    pairs = _Pairs(expected, actual)
    return tuple(
        item.kind in _PROMISES
        or (item.kind in _CONSTANTS and any(pairs.left_alone(value) for value in item.values))
        for item in differences
    )


def new_epsilons(expected: GraphIndex, actual: GraphIndex) -> Iterator[Difference]:
    """Attributes ``epsilon`` of ``actual`` whose value is nowhere in ``expected``.

    There it may be an attribute, or a number that a node adds.
    """
    known = {value for node in expected.nodes for value in _epsilons(node)}
    attributes = sorted(known)
    for name, tensor in expected.initializers.items():
        if not math.prod(tensor.dims) > 1 and tensor.data_type == onnx.TensorProto.FLOAT:
            known.update(float(value) for value in expected.array(name).reshape(-1))
    for node in actual.nodes:
        for value in _epsilons(node):
            if value not in known:
                yield Difference(
                    kind=Kind.ATTRIBUTE,
                    node=node.name or f"{node.op_type} of '{next(_given(node.output))}'",
                    op=node.op_type,
                    name="epsilon",
                    expected=" or ".join(f"{epsilon:g}" for epsilon in attributes) or "absent",
                    actual=f"{value:g}",
                )


def _epsilons(node: onnx.NodeProto) -> tuple[float, ...]:
    epsilons = tuple(attribute.f for attribute in node.attribute if attribute.name == "epsilon")
    return epsilons or ((_DEFAULT,) if node.op_type in _NORMS else ())


class _Pairs:
    """Nodes of two graphs that give a value of one name by one op."""

    def __init__(self, expected: GraphIndex, actual: GraphIndex):
        self._expected, self._actual = expected, actual

    def left_alone(self, value: str) -> bool:
        """True when the node of ``value`` and all nodes around it stand in both graphs."""
        if not self._same(value):
            return False
        return all(
            self._same(name)
            for graph in (self._expected, self._actual)
            for name in _around(graph, value)
        )

    def _same(self, value: str) -> bool:
        nodes = [_node(graph, value) for graph in (self._expected, self._actual)]
        left, right = nodes
        if left is None or right is None:
            return left is right
        return (left.op_type, left.domain) == (right.op_type, right.domain)


def _node(graph: GraphIndex, value: str) -> onnx.NodeProto | None:
    position = graph.producer.get(value)
    return None if position is None else graph.nodes[position]


def _around(graph: GraphIndex, value: str) -> Iterator[str]:
    """Names that stand for the nodes in front of and behind the node of ``value``."""
    position = graph.producer[value]
    for name in graph.reads[position]:
        if name in graph.producer:
            yield name
    for name in _given(graph.nodes[position].output):
        for user in graph.consumers.get(name, ()):
            yield next(_given(graph.nodes[user].output))


def _given(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if name)
