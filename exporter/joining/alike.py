"""What two files compute with the same nodes: it need not be computed of both.

    whole    from the inputs on, the same operators on the same constants
    local    from the nearest joined values on

Where a file is fed the other one's values, its nodes give the other one's numbers bit by bit where
they are the same nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.graph.index import GraphIndex
from exporter.joining.digests import Digests, one_language
from exporter.joining.joined import Joined


@dataclass(frozen=True, slots=True)
class Alike:
    """Names of joined values of the judged file; see above."""

    whole: frozenset[str] = frozenset()
    local: frozenset[str] = frozenset()


def alike(
    expected: GraphIndex, actual: GraphIndex, joined: Joined, inputs_of_actual: Mapping[str, str]
) -> Alike:
    """The joined values that both files compute with the same nodes.

    Args:
        inputs_of_actual: input of ``actual`` -> input of ``expected``.
    """
    if joined.restored is not None or not one_language(expected, actual):
        return Alike()
    kinds = [
        {value.name: value.type.tensor_type.elem_type for value in graph.model.graph.input}
        for graph in (expected, actual)
    ]
    if any(kinds[0].get(ours) != kinds[1].get(name) for name, ours in inputs_of_actual.items()):
        return Alike()
    joins = [join for join in joined.joins if join.expected in expected.producer]
    # Of outputs that numbers do not bear out no shapes are known.
    plain = [j for j in joins if j.layout.perm is None and j.shapes[0] == j.shapes[1] != ()]
    ours, theirs = Digests(expected), Digests(actual, inputs_of_actual)
    whole = frozenset(j.actual for j in plain if ours.of(j.expected) == theirs.of(j.actual))
    fed = {join.expected: f"fed {join.expected}".encode() for join in joins}
    left = ours.behind(range(len(expected.nodes)), fed)
    given = {join.actual: f"in another order {join.actual}".encode() for join in joins}
    given |= {join.actual: fed[join.expected] for join in plain}
    right = theirs.behind(range(len(actual.nodes)), given)
    local = frozenset(j.actual for j in plain if left[j.expected] == right.get(j.actual))
    return Alike(whole, local)


def same_graph(left: GraphIndex, right: GraphIndex, names: Mapping[str, str]) -> bool:
    """Whether two files compute their outputs with the same nodes.

    Args:
        names: input of ``right`` -> input of ``left``.
    """
    if len(left.nodes) != len(right.nodes):
        return False
    ours, theirs = Digests(left), Digests(right, names)
    return all(ours.of(name) == theirs.of(name) for name in right.outputs)
