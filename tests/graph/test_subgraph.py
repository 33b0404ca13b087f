"""Windows of a graph: every node once, and a tap either computed or fed."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.graph.index import GraphIndex
from exporter.graph.subgraph import OWN, Partition, WindowGraph, cut_window
from tests.support.toys import index, mixed

FLOAT = np.dtype(np.float32)


class AnyDtype(dict[str, np.dtype]):
    def __missing__(self, name: str) -> np.dtype:
        return FLOAT


def values(graph: GraphIndex) -> list[str]:
    return [name for node in graph.nodes for name in node.output if name]


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_every_node_is_handed_out_once(step: int):
    graph = index(mixed().model)
    partition, given = Partition(graph), []
    names = values(graph)
    for start in range(0, len(names), step):
        given += partition.take(names[start : start + step])
    assert sorted(given) == list(range(len(graph.nodes)))
    assert partition.rest() == ()


def test_only_what_a_value_needs_is_handed_out():
    graph = index(mixed().model)
    partition = Partition(graph)
    first = partition.take([graph.nodes[0].output[0]])
    assert first == (0,)
    assert 0 not in partition.rest()


def window(graph: GraphIndex, forced: frozenset[str]) -> WindowGraph:
    nodes = tuple(range(len(graph.nodes)))
    return cut_window(
        graph, nodes, keep=values(graph), pending=[], forced=forced, dtypes=AnyDtype()
    )


def test_a_free_window_reads_inputs_only():
    graph = index(mixed().model)
    found = window(graph, frozenset())
    assert found.inputs == ("x",)
    assert set(found.outputs) == set(values(graph))


def test_a_forced_value_comes_in_and_its_own_leaves_under_another_name():
    graph = index(mixed().model)
    forced = graph.nodes[graph.consumers[graph.nodes[3].output[0]][0]].input[0]
    found = window(graph, frozenset({forced}))
    assert set(found.inputs) == {"x", forced}
    assert forced + OWN in found.outputs
    assert forced not in found.outputs
    readers = [node for node in found.model.graph.node if forced in node.input]
    assert readers
    assert all(forced + OWN not in node.input for node in found.model.graph.node)


def test_the_graph_itself_is_not_changed():
    model = mixed().model
    before = model.SerializeToString(deterministic=True)
    graph = index(model)
    window(graph, frozenset(values(graph)))
    assert model.SerializeToString(deterministic=True) == before


def test_large_weights_are_referred_to_and_small_ones_are_inside():
    graph = index(mixed().model)
    found = window(graph, frozenset())
    inside = {t.name for t in found.model.graph.initializer if t.raw_data or t.float_data}
    assert set(found.weights).isdisjoint(inside)
    assert all(graph.initializers[name].ByteSize() >= 1024 for name in found.weights)
    assert found.weights
