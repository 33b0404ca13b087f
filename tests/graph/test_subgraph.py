"""Windows of a graph: every node once, and a tap either computed or fed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import WindowRun
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
    assert partition.take(partition.graph.outputs) == ()


def test_only_what_a_value_needs_is_handed_out():
    graph = index(mixed().model)
    partition = Partition(graph)
    first = partition.take([graph.nodes[0].output[0]])
    assert first == (0,)
    assert 0 not in partition.take(partition.graph.outputs)


def split() -> onnx.ModelProto:
    """x -> Mul -> SplitToSequence, whose two pieces are taken one by one."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["whole"]),
        helper.make_node("SplitToSequence", ["whole", "half"], ["pieces"], axis=1),
        helper.make_node("SequenceAt", ["pieces", "first"], ["a"]),
        helper.make_node("SequenceAt", ["pieces", "second"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Neg", ["sum"], ["y"]),
    ]
    constants = {"half": 2, "first": 0, "second": 1}
    graph = helper.make_graph(
        nodes,
        "split",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3, 2])],
        [onnx.numpy_helper.from_array(np.array(v), name) for name, v in constants.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def test_what_a_repeated_node_reads_is_awaited_until_its_last_reader_is_handed_out():
    partition = Partition(index(split()))
    awaited = {}
    for name in ("whole", "a", "b", "sum", "y"):
        partition.take([name])
        awaited[name] = partition.is_awaited("whole")
    assert awaited == {"whole": True, "a": True, "b": False, "sum": False, "y": False}


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


def products() -> onnx.ModelProto:
    """x -> MatMul(w) -> Gemm(v) -> Add(b); ``shared`` is read by a product and by an Add."""
    random = np.random.default_rng(0)
    weights = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in {"w": (16, 24), "v": (24, 24), "b": (24,), "shared": (24, 24)}.items()
    }
    weights["tiny"] = np.eye(2, 24, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Gemm", ["a", "v", "b"], ["g"]),
        helper.make_node("MatMul", ["g", "shared"], ["s"]),
        helper.make_node("Add", ["s", "shared"], ["t"]),
        helper.make_node("MatMul", ["tiny", "t"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [24, 16])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 24])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def cut(graph: GraphIndex, *, feed_matrices: bool) -> WindowGraph:
    kind = graph.model.graph.input[0].type.tensor_type.elem_type
    return cut_window(
        graph,
        tuple(range(len(graph.nodes))),
        keep=["a", "g", "s", "t", "y"],
        pending=[],
        forced=frozenset(),
        dtypes={"x": np.dtype(helper.tensor_dtype_to_np_dtype(kind))},
        feed_matrices=feed_matrices,
    )


def test_large_matrices_that_only_products_read_are_fed():
    found = cut(index(products()), feed_matrices=True)
    assert found.fed == ("w", "v")
    assert found.inputs == ("x",)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in _inputs(found)}
    assert (shapes["w"], shapes["v"]) == ([16, 24], [24, 24])
    held = {tensor.name for tensor in found.model.graph.initializer}
    assert held == {"b", "shared", "tiny"}
    assert "w" not in found.weights


def test_nothing_is_fed_unless_it_is_asked_for():
    found = cut(index(products()), feed_matrices=False)
    assert found.fed == ()
    assert {t.name for t in found.model.graph.initializer} == {"w", "v", "b", "shared", "tiny"}


def test_a_weight_that_is_also_an_output_stays_one():
    model = products()
    model.graph.output.add(name="w")
    assert cut(index(model), feed_matrices=True).fed == ("v",)


def products_in(dtype: type[np.floating]) -> onnx.ModelProto:
    model = products()
    for tensor in model.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return model


def test_float32_and_float16_are_fed_and_no_other():
    assert cut(index(products_in(np.float16)), feed_matrices=True).fed == ("w", "v")
    assert cut(index(products_in(np.float64)), feed_matrices=True).fed == ()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("level", ["disable", "all"])
def test_a_window_computes_the_same_with_fed_matrices(level: str, dtype: type[np.floating]):
    graph = index(products_in(dtype))
    x = np.random.default_rng(1).standard_normal((24, 16)).astype(dtype)
    deployment = Deployment(level=level, threads=1)
    fed, held = (
        WindowRun(cut(graph, feed_matrices=feed), graph, deployment).run({"x": x})
        for feed in (True, False)
    )
    assert fed.keys() == held.keys() == {"a", "g", "s", "t", "y"}
    for name, value in held.items():
        assert np.array_equal(fed[name], value), name


def _inputs(found: WindowGraph) -> list[onnx.ValueInfoProto]:
    return list(found.model.graph.input)


def stored_as(dtype: int) -> onnx.ModelProto:
    """A large weight of a format that numpy lacks, read by the first node."""
    if dtype == onnx.TensorProto.STRING:
        words = helper.make_tensor("w", dtype, [320], [b"yes", b"no"] * 160)
        nodes = [
            helper.make_node("Gather", ["w", "x"], ["v"]),
            helper.make_node("Equal", ["v", "one"], ["y"]),
        ]
        tensors = [words, helper.make_tensor("one", dtype, [], [b"yes"])]
    else:
        weight = helper.make_tensor("w", dtype, [320], [1.0, 2.0] * 160)
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "scale"], ["v"]),
            helper.make_node("Gather", ["v", "x"], ["y"]),
        ]
        tensors = [weight, helper.make_tensor("scale", onnx.TensorProto.FLOAT, [], [0.5])]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.INT64, ["n"])
    graph = helper.make_graph(nodes, "g", [x], [helper.make_empty_tensor_value_info("y")], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


@pytest.mark.parametrize("kind", ["STRING", "INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2"])
def test_a_large_weight_that_numpy_has_no_format_for_stays_in_the_window(kind: str):
    graph = index(stored_as(getattr(onnx.TensorProto, kind)))
    window = cut_window(graph, (0, 1), keep=["y"], dtypes={"x": np.dtype(np.int64)})
    run = WindowRun(window, graph, Deployment(threads=1))
    found = run.run({"x": np.array([0, 301], np.int64)})["y"]
    assert found.tolist() == ([True, False] if kind == "STRING" else [0.5, 1.0])
