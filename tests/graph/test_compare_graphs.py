"""The exact diff of two graphs: what must be seen, and what must not alarm."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.graph.compare_graphs import diff_structure
from exporter.graph.difference_kinds import Difference
from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.onnx_file import read_model
from tests.support.files import write_model

W = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
TAPS = ("x", "mul", "norm", "y")


def model() -> onnx.ModelProto:
    """x [N, 8] -> Gemm -> Mul (0.5) -> LayerNormalization -> Reshape -> y."""
    nodes = [
        helper.make_node("Gemm", ["x", "gemm.weight", "gemm.bias"], ["hidden"], name="gemm"),
        helper.make_node("Mul", ["hidden", "half"], ["mul"], name="mul"),
        helper.make_node(
            "LayerNormalization", ["mul", "norm.weight"], ["norm"], name="norm", epsilon=1e-5
        ),
        helper.make_node("Reshape", ["norm", "shape"], ["flat"], name="reshape"),
        helper.make_node("Sub", ["flat", "half"], ["y"], name="sub"),
    ]
    weights = {
        "gemm.weight": W,
        "gemm.bias": np.arange(8, dtype=np.float32),
        "half": np.float32(0.5).reshape(()),
        "norm.weight": np.ones(8, np.float32),
        "shape": np.array([-1, 8], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def index(proto: onnx.ModelProto) -> GraphIndex:
    return index_graph(proto, Path())


def diff(change: Callable[[onnx.ModelProto], None]) -> tuple[Difference, ...]:
    proto = model()
    change(proto)
    return diff_structure(index(model()), index(proto), taps=TAPS)


def only(change: Callable[[onnx.ModelProto], None]) -> Difference:
    found = diff(change)
    assert len(found) == 1, found
    return found[0]


def node(proto: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in proto.graph.node if n.name == name)


def store(proto: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
            return
    proto.graph.initializer.append(numpy_helper.from_array(value, name))


def test_a_copy_has_no_differences():
    assert diff(lambda proto: None) == ()


def test_an_attribute_is_named_with_both_values():
    def change(proto):
        node(proto, "norm").attribute[0].f = 1e-6

    found = only(change)
    assert (found.kind, found.node, found.name) == ("attribute", "norm", "epsilon")
    assert (found.expected, found.actual, found.tap) == ("1e-05", "1e-06", "norm")


def test_the_last_bit_of_an_attribute_is_seen():
    def change(proto):
        held = node(proto, "norm").attribute[0]
        held.f = float(np.nextafter(np.float32(held.f), np.float32(1)))

    found = only(change)
    assert found.expected != found.actual


def test_an_attribute_that_falls_back_to_another_default_is_seen():
    found = only(
        lambda proto: node(proto, "gemm").attribute.append(helper.make_attribute("alpha", 2.0))
    )
    assert (found.name, found.expected, found.actual) == ("alpha", "1", "2")


def test_a_default_that_is_spelt_out_is_no_difference():
    assert not diff(
        lambda proto: node(proto, "gemm").attribute.append(helper.make_attribute("alpha", 1.0))
    )


def test_one_weight_element_is_named_with_index_and_count():
    changed = W.copy()
    changed[3, 5] += 1e-7
    found = only(lambda proto: store(proto, "gemm.weight", changed))
    assert (found.kind, found.name, found.index) == ("weight", "gemm.weight", (3, 5))
    assert (found.count, found.size, found.tap, found.node) == (1, 64, "mul", "gemm")
    assert found.expected != found.actual and found.expected.endswith("at [3, 5]")


def test_the_largest_of_several_differences_is_shown_and_nan_is_largest():
    changed = W.copy()
    changed[0, 0] += 0.1
    changed[7, 7] += 10
    changed[1, 2] = np.nan
    found = only(lambda proto: store(proto, "gemm.weight", changed))
    assert found.index == (1, 2) and found.count == 3 and found.actual.startswith("nan")


@pytest.mark.parametrize(
    ("value", "note"),
    [
        (W.T, "transpose"),
        (W.astype(np.float16).astype(np.float32), "float16"),
        (W[::-1], "order"),
        (np.zeros_like(W), "zero"),
        (W * 2, ""),
    ],
)
def test_what_happened_to_a_weight_is_noted(value, note):
    found = only(lambda proto: store(proto, "gemm.weight", np.ascontiguousarray(value)))
    assert note in found.note and bool(note) == bool(found.note)


def test_negative_zero_is_not_zero():
    bias = np.arange(8, dtype=np.float32)
    bias[0] = -0.0
    assert only(lambda proto: store(proto, "gemm.bias", bias)).count == 1


def test_nan_equals_the_same_nan():
    before, after = model(), model()
    for proto in (before, after):
        store(proto, "half", np.float32(np.nan).reshape(()))
    assert diff_structure(index(before), index(after)) == ()


def test_a_shared_constant_names_every_place_that_reads_it():
    found = only(lambda proto: store(proto, "half", np.float32(0.25).reshape(())))
    assert (found.kind, found.expected, found.actual) == ("constant", "0.5", "0.25")
    assert (found.tap, found.also) == ("mul", ("y",))


def test_a_constant_under_another_name_counts_by_its_value():
    def rename(proto, value):
        store(proto, "own", np.float32(value).reshape(()))
        node(proto, "mul").input[1] = "own"

    assert not diff(lambda proto: rename(proto, 0.5))
    found = only(lambda proto: rename(proto, 0.75))
    assert (found.kind, found.name, found.actual, found.also) == ("constant", "half", "0.75", ())


def test_dtype_and_shape_of_a_weight():
    found = only(lambda proto: store(proto, "gemm.weight", W.astype(np.float16)))
    assert (found.kind, found.actual) == ("dtype", "float16 [8, 8]")
    found = only(lambda proto: store(proto, "gemm.bias", np.arange(8, dtype=np.float32)[None]))
    assert found.kind == "shape" and "[1, 8]" in found.actual


def test_swapped_inputs():
    def change(proto):
        held = node(proto, "mul")
        held.input[:] = ["half", "hidden"]

    found = diff(change)
    assert {f.kind for f in found} == {"inputs changed"} and {f.node for f in found} == {"mul"}
    assert found[0].name == "input 0 (A)" and found[0].expected == "hidden"


def test_a_missing_bias():
    found = only(lambda proto: node(proto, "gemm").input.pop())
    assert (found.kind, found.name, found.actual) == ("inputs changed", "input 2 (C)", "absent")


def test_another_operator():
    def change(proto):
        held = node(proto, "sub")
        held.op_type = "Add"

    found = only(change)
    assert (found.kind, found.tap) == ("op changed", "y")
    assert found.expected.startswith("Sub(") and found.actual.startswith("Add(")


def test_a_node_that_was_inserted():
    def change(proto):
        proto.graph.node.insert(2, helper.make_node("Cast", ["mul"], ["half_mul"], name="c", to=10))
        node(proto, "norm").input[0] = "half_mul"

    added, moved = sorted(diff(change), key=lambda f: f.kind)[::-1]
    assert (added.kind, added.actual, added.tap) == ("node added", "Cast(mul)", "norm")
    assert (moved.kind, moved.expected, moved.actual) == ("inputs changed", "mul", "half_mul")


def test_a_node_that_was_removed():
    def change(proto):
        proto.graph.node.remove(node(proto, "mul"))
        node(proto, "norm").input[0] = "hidden"

    assert [f.kind for f in diff(change)] == ["node missing", "inputs changed"]


def test_a_value_that_became_a_constant():
    def change(proto):
        proto.graph.node.remove(node(proto, "mul"))
        store(proto, "mul", np.zeros((2, 8), np.float32))

    kinds = {f.kind: f for f in diff(change)}
    assert kinds.keys() == {"node missing", "inputs changed"}
    assert "constant" in kinds["node missing"].actual


def test_a_baked_axis_of_an_output_is_an_interface_difference():
    def change(proto):
        proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 17

    found = only(change)
    assert (found.kind, found.name) == ("interface", "output 'y'")
    assert (found.expected, found.actual) == ("float [?, 8]", "float [17, 8]")


def test_dtype_of_an_input_is_interface():
    def change(proto):
        proto.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE

    assert only(change).kind == "interface"


def test_opset():
    def change(proto):
        proto.opset_import[0].version = 19

    assert [(f.kind, f.expected, f.actual) for f in diff(change)] == [("opset", "18", "19")]


def test_names_of_nodes_metadata_symbols_and_order_do_not_alarm():
    def change(proto):
        for held in proto.graph.node:
            held.name = f"renamed_{held.name}"
            held.doc_string = "by another tool"
            held.metadata_props.add(key="k", value="v")
        proto.graph.name = "another"
        proto.producer_name = "another"
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
        store(proto, "nobody_reads_me", np.zeros(3, np.float32))
        tensors = list(proto.graph.initializer)[::-1]
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(tensors)

    assert diff(change) == ()


def test_typed_fields_equal_raw_bytes():
    def change(proto):
        tensor = next(t for t in proto.graph.initializer if t.name == "gemm.weight")
        tensor.ClearField("raw_data")
        tensor.float_data.extend(W.reshape(-1).tolist())

    assert diff(change) == ()


def test_constant_nodes_equal_initialisers():
    def change(proto):
        tensors = [t for t in proto.graph.initializer if t.name != "half"]
        half = next(t for t in proto.graph.initializer if t.name == "half")
        constant = helper.make_node("Constant", [], ["half"], value=half)
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(tensors)
        proto.graph.node.insert(0, constant)

    assert diff(change) == ()


def test_subgraphs_are_compared_without_their_decoration():
    def conditional(name: str, factor: float) -> onnx.ModelProto:
        def branch(value: float) -> onnx.GraphProto:
            body = helper.make_node("Constant", [], ["out"], name=name, value_float=value)
            return helper.make_graph([body], name, [], [helper.make_empty_tensor_value_info("out")])

        nodes = [
            helper.make_node(
                "If", ["c"], ["y"], then_branch=branch(factor), else_branch=branch(0.0)
            )
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    clean = index(conditional("a", 1.0))
    assert diff_structure(clean, index(conditional("b", 1.0))) == ()
    found = diff_structure(clean, index(conditional("a", 1.5)))
    assert [(f.kind, f.name) for f in found] == [("attribute", "then_branch")]


def test_external_data_is_compared_by_its_bytes(tmp_path):
    big = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)
    protos = [model() for _ in range(3)]
    for proto in protos:
        store(proto, "norm.weight", big)
    changed = big.copy()
    changed[9, 9] = 0
    store(protos[2], "norm.weight", changed)
    indexes = []
    for number, proto in enumerate(protos):
        path = tmp_path / str(number) / "model.onnx"
        write_model(proto, path, external_data=True, metadata={})
        indexes.append(index_graph(read_model(path), path.parent))
    assert diff_structure(indexes[0], indexes[1]) == ()
    assert diff_structure(indexes[0], indexes[0]) == ()
    found = diff_structure(indexes[0], indexes[2])
    assert [(f.kind, f.index) for f in found] == [("weight", (9, 9))]


def test_without_taps_the_nodes_own_output_is_named():
    proto = model()
    store(proto, "gemm.bias", np.zeros(8, np.float32))
    assert [f.tap for f in diff_structure(index(model()), index(proto))] == ["hidden"]


def test_equal_weights_cost_little_more_than_reading_them():
    big = np.ones((8192, 4096), np.float32)
    pair = [model(), model()]
    for proto in pair:
        store(proto, "gemm.weight", big)
    indexes = [index(proto) for proto in pair]
    tensors = [held.initializers["gemm.weight"] for held in indexes]

    def seconds(work: Callable[[], bool]) -> float:
        times = []
        for _ in range(3):
            started = time.process_time()
            assert work()
            times.append(time.process_time() - started)
        return min(times)

    floor = seconds(lambda: tensors[0].raw_data == tensors[1].raw_data)
    assert seconds(lambda: diff_structure(*indexes) == ()) < 3 * floor + 0.1
