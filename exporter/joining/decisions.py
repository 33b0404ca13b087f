"""Decisions that both files take alike on all that was run, by operators that are not the same.

    A   Less(position, length)           B   LessOrEqual(position, length)

Where no position is the length, no number tells them apart: a mask that lets one frame more
through gives the same on rows without padding. That the operators differ is seen all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.core.operators import is_standard
from exporter.graph.index import GraphIndex
from exporter.joining.by_value import Joiner
from exporter.joining.evaluate import Values
from exporter.joining.joined import Otherwise
from exporter.joining.match import distance

_DECIDING = frozenset({"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"})
_DECIDING |= {"And", "Or", "Xor"}


def decided_otherwise(
    joiner: Joiner, inputs: Sequence[Mapping[str, np.ndarray]]
) -> tuple[Otherwise, ...]:
    """Decisions of the same values with the same results that no node of A takes as B does.

    Args:
        inputs: by the names of A.
    """
    ours = list(_decisions(joiner.a.graph, joiner.values_a, inputs))
    otherwise = []
    for theirs in _decisions(joiner.b.graph, joiner.values_b, joiner.inputs):
        alike = [decision for decision in ours if _alike(decision, theirs, joiner.within)]
        if alike and all(decision.op != theirs.op for decision in alike):
            first = alike[0]
            otherwise.append(
                Otherwise(
                    expected=first.name,
                    actual=theirs.name,
                    expected_op=first.op,
                    actual_op=theirs.op,
                )
            )
    return tuple(otherwise)


@dataclass(frozen=True, slots=True)
class _Decision:
    op: str
    name: str
    operands: tuple[Sequence[np.ndarray], ...]
    result: Sequence[np.ndarray]


def _decisions(
    graph: GraphIndex, values: Values, inputs: Sequence[Mapping[str, np.ndarray]]
) -> Iterator[_Decision]:
    for node in graph.nodes:
        if node.op_type not in _DECIDING or not is_standard(node):
            continue
        read = [_arrays(graph, values, inputs, name) for name in (*node.input, node.output[0])]
        arrays_read = [arrays for arrays in read if arrays is not None]
        if len(arrays_read) == len(read):
            yield _Decision(node.op_type, node.output[0], tuple(arrays_read[:-1]), arrays_read[-1])


def _arrays(
    graph: GraphIndex, values: Values, inputs: Sequence[Mapping[str, np.ndarray]], name: str
) -> Sequence[np.ndarray] | None:
    if name in graph.initializers:
        return [graph.array(name)] * len(inputs)
    if name in graph.inputs:
        return [np.asarray(case[name]) for case in inputs]
    return values.get(name)


def _alike(ours: _Decision, theirs: _Decision, within: float) -> bool:
    """The same results of the same operands, in their order."""
    pairs = ((ours.result, theirs.result), *zip(ours.operands, theirs.operands, strict=True))
    return all(_same(one, other, within) for one, other in pairs)


def _same(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], within: float) -> bool:
    return all(
        one.size == other.size
        and one.dtype.kind not in "OSU"
        and distance(one.reshape(-1), other.reshape(-1)) <= within
        for one, other in zip(ours, theirs, strict=True)
    )
