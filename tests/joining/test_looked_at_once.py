"""What both files hold alike is computed, hashed and looked at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporter.graph.index import GraphIndex, index_graph
from exporter.joining import alike, by_value, evaluate, match
from exporter.joining.digests import Digests
from exporter.joining.join import join_graphs
from exporter.joining.joined import Proof
from tests.joining.decoys import drawn, inputs


class Counted:
    """Calls of a function."""

    def __init__(self, called):
        self.called, self.count = called, 0

    def __call__(self, *args, **kwargs):
        self.count += 1
        return self.called(*args, **kwargs)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> tuple[Counted, Counted]:
    counted = Counted(match.sketch), Counted(match.closest)
    monkeypatch.setattr(by_value, "sketch", counted[0])
    monkeypatch.setattr(match, "closest", counted[1])
    return counted


def test_values_of_one_function_need_no_second_look(tmp_path: Path, looks):
    seed = next(seed for seed in range(40) if "twins 0.3" in drawn(seed).story)
    graph = drawn(seed).expected
    joined = join_graphs(graph, graph, inputs(seed), tmp_path)
    assert joined.share == 1.0
    assert all(join.proof is Proof.VALUE and join.distance == 0.0 for join in joined.joins)
    sketches, held = looks
    assert sketches.count == len(graph.nodes)
    assert held.count == 0


def test_twins_of_another_name_are_told_apart_as_ever(tmp_path: Path, looks):
    """A value of A's own function that a twin lies next to: what is near is looked at."""
    twin = next(seed for seed in range(40) if "twins 1e-06" in drawn(seed).story)
    pair = drawn(twin)
    joined = join_graphs(pair.expected, pair.expected, inputs(twin), tmp_path)
    assert all(join.expected == join.actual for join in joined.joins)
    assert looks[1].count > 1


def test_the_bytes_of_a_weight_are_hashed_once(monkeypatch: pytest.MonkeyPatch):
    graph = drawn(0).expected
    weights = [name for name in graph.initializers if graph.array(name).size > 8]
    assert weights
    counted = Counted(GraphIndex.array)
    monkeypatch.setattr(GraphIndex, "array", lambda self, name: counted(self, name))
    first = {name: Digests(graph).of(name) for name in weights}
    assert counted.count == len(graph.initializers)
    assert {name: Digests(replace(graph)).of(name) for name in weights} == first
    assert counted.count == len(graph.initializers)
    assert len(set(first.values())) > 1


def _chain(count: int) -> GraphIndex:
    """x [B, T, C] through products and error functions in turn; there is no Erf in float64."""
    random = np.random.default_rng(0)
    nodes, weights, made = [], {}, "x"
    for at in range(count):
        weights[f"w{at}"] = random.standard_normal((6, 6)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [made, f"w{at}"], [f"product{at}"]))
        nodes.append(helper.make_node("Erf", [f"product{at}"], [f"erf{at}"]))
        made = f"erf{at}"
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["b", "t", 6])],
        [helper.make_tensor_value_info(made, onnx.TensorProto.FLOAT, ["b", "t", 6])],
        [numpy_helper.from_array(held, name) for name, held in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return index_graph(model, Path())


def test_an_operator_without_a_kernel_ends_a_stretch_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluate, "_REFUSED", set())
    tried = Counted(evaluate.ModelRun)
    monkeypatch.setattr(evaluate, "ModelRun", tried)
    graph, count = _chain(30), 30
    first = evaluate.Values(tmp_path)
    found = evaluate.evaluate(graph, inputs(0), first)
    assert not found.missing and not found.coarse
    assert ("", "Erf") in evaluate._REFUSED
    # One for each operator, and as often as a stretch was halved before it was known.
    assert tried.count < 2 * count + 10
    again = evaluate.Values(tmp_path)
    evaluate.evaluate(graph, inputs(0), again)
    for name in first.names():
        assert all(np.array_equal(*pair) for pair in zip(first[name], again[name], strict=True))


def test_alike_is_of_the_same_bytes_only():
    """The healthy twin of what is shared: a weight of other bytes is another function."""
    pair = next(p for p in map(drawn, range(40)) if ", one weight," in p.story)
    joined = join_graphs(pair.expected, pair.actual, inputs(0), Path())
    same = alike.alike(pair.expected, pair.actual, joined, {"x": "x"})
    changed = {join.actual for join in joined.joins if join.distance > 0}
    assert changed.isdisjoint(same.whole)
