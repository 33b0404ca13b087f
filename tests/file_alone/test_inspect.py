"""``inspect`` of any file: what it is made of, what is known to go wrong, and kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.execution.kernels import Kernel, kernels_of, support_of
from exporter.flows.inspect import inspect
from exporter.graph import traps
from exporter.graph.anatomy import Anatomy, anatomy_of
from exporter.report.inspection import inspection_lines
from tests.support import small_files as files

node = helper.make_node
FLOAT = TensorProto.FLOAT


def model(
    nodes: list[onnx.NodeProto],
    *,
    weights: list[onnx.TensorProto] | None = None,
    inputs: dict[str, tuple[int, list]] | None = None,
    opset: int = 20,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    given = inputs or {"x": (FLOAT, [2, 8])}
    values = [helper.make_tensor_value_info(name, *kind) for name, kind in given.items()]
    last = helper.make_empty_tensor_value_info(nodes[-1].output[0])
    graph = helper.make_graph(nodes, "main", values, [last], weights or [])
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets)


def held(name: str, value: object, dtype: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def branches(condition: list[onnx.NodeProto], **more: object) -> onnx.ModelProto:
    def branch(name: str, factor: float) -> onnx.GraphProto:
        weights = [held(f"w_{name}", np.full((8, 8), factor))]
        out = [helper.make_empty_tensor_value_info(f"o_{name}")]
        return helper.make_graph(
            [node("MatMul", ["x", f"w_{name}"], [f"o_{name}"])], name, [], out, weights
        )

    nodes = [
        *condition,
        node("If", ["go"], ["y"], name="which", then_branch=branch("a", 1.0),
             else_branch=branch("b", 2.0)),
    ]  # fmt: skip
    return model(nodes, **more)  # type: ignore[arg-type]


def stft(points: int) -> onnx.ModelProto:
    nodes = [node("STFT", ["x", "hop", "w", "n"], ["y"], name="spectrum")]
    weights = [held("hop", 160, np.int64), held("w", np.ones(points)), held("n", points, np.int64)]
    return model(nodes, weights=weights, inputs={"x": (FLOAT, [1, 1600, 1])})


def dft(points: int) -> onnx.ModelProto:
    nodes = [node("DFT", ["x", "n"], ["y"], name="spectrum", axis=1)]
    return model(nodes, weights=[held("n", points, np.int64)], opset=17,
                 inputs={"x": (FLOAT, [1, points, 1])})  # fmt: skip


def on_a_rate(name: str, value: int) -> onnx.ModelProto:
    return branches(
        [node("Equal", [name, "value"], ["go"])],
        weights=[held("value", value, np.int64)],
        inputs={"x": (FLOAT, [2, 8]), name: (TensorProto.INT64, [])},
    )


def normalised(op: str) -> onnx.ModelProto:
    weights = [held("s", np.ones(8)), held("b", np.zeros(8))]
    if op == "LayerNormalization":
        return model([node(op, ["x", "s", "b"], ["y"])], weights=weights)
    return model([node("Mul", ["x", "s"], ["y"])], weights=weights)


def windowed(op: str) -> onnx.ModelProto:
    return model([node(op, ["n"], ["w"]), node("Mul", ["x", "w"], ["y"])],
                 weights=[held("n", 8, np.int64)])  # fmt: skip


def dropout(trains: bool) -> onnx.ModelProto:
    weights = [held("r", 0.5), held("t", trains, np.bool_)]
    return model([node("Dropout", ["x", "r", "t"], ["y"])], weights=weights)


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], Callable[[], onnx.ModelProto]]] = {
    "stft_points": (lambda: stft(400), lambda: stft(512)),
    "dft_points": (lambda: dft(400), lambda: dft(512)),
    "hamming_window": (lambda: windowed("HammingWindow"), lambda: windowed("HannWindow")),
    "layer_norm": (lambda: normalised("LayerNormalization"), lambda: normalised("Mul")),
    "branch_on_rate": (lambda: on_a_rate("sr", 16_000), lambda: on_a_rate("layers", 3)),
    "draws": (
        lambda: model([node("RandomNormalLike", ["x"], ["y"])]),
        lambda: model([node("Relu", ["x"], ["y"])]),
    ),
    "dropout_trains": (lambda: dropout(trains=True), lambda: dropout(trains=False)),
}


def test_every_trap_has_a_case():
    assert set(CASES) == {trap.key for trap in traps.TRAPS}


@pytest.mark.parametrize("key", CASES)
def test_a_trap_fires_and_its_healthy_twin_is_silent(key: str):
    bad, healthy = CASES[key]
    sprung = {trap.key: trap for trap in traps.traps_of(bad())}
    assert set(sprung) == {key}
    assert sprung[key].nodes
    assert not traps.traps_of(healthy())


def test_a_rate_is_known_by_its_name_and_by_its_number():
    assert traps.traps_of(on_a_rate("sr", 3))
    assert traps.traps_of(on_a_rate("v", 8_000))


def test_a_trap_inside_of_a_branch_is_seen():
    inner = helper.make_graph(
        [node("RandomNormalLike", ["x"], ["o"], name="inside")],
        "then", [], [helper.make_empty_tensor_value_info("o")],
    )  # fmt: skip
    other = helper.make_graph(
        [node("Identity", ["x"], ["p"])], "else", [], [helper.make_empty_tensor_value_info("p")]
    )
    made = model(
        [node("If", ["go"], ["y"], then_branch=inner, else_branch=other)],
        inputs={"x": (FLOAT, [2, 8]), "go": (TensorProto.BOOL, [])},
    )
    assert [trap.nodes for trap in traps.traps_of(made)] == [("inside",)]


def test_weights_in_branches_are_counted():
    found = anatomy_of(on_a_rate("sr", 16_000))
    product = next(row for row in found.ops if row.op == "MatMul")
    assert (product.nodes, product.inside, product.bytes) == (2, 2, 2 * 64 * 4)
    assert {row.dtype: row.elements for row in found.weights} == {"float32": 128, "int64": 1}
    assert found.unread == 0


def test_a_weight_that_two_read_counts_once():
    made = model(
        [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["a", "w"], ["y"])],
        weights=[held("w", np.ones((8, 8))), held("left", np.ones(5))],
    )
    found = anatomy_of(made)
    assert sum(row.bytes for row in found.ops) == 256
    assert (found.unread, found.unread_bytes) == (1, 20)


def quantised(dtype: int) -> Anatomy:
    weight = helper.make_tensor("w", dtype, [8, 8], np.ones(64, np.int8).tolist())
    zero = helper.make_tensor("z", dtype, [], [0])
    nodes = [
        node("DequantizeLinear", ["w", "s", "z"], ["wide"]),
        node("MatMul", ["x", "wide"], ["y"]),
    ]
    return anatomy_of(model(nodes, weights=[weight, held("s", 0.1), zero], opset=21))


@pytest.mark.parametrize(
    ("dtype", "word"), [(TensorProto.INT8, "int8"), (TensorProto.INT4, "int4")]
)
def test_qdq_weights_are_named(dtype: int, word: str):
    found = quantised(dtype)
    assert f"{word} weights behind DequantizeLinear (QDQ), 1 node(s)" in found.formats
    row = next(row for row in found.weights if row.dtype == word)
    assert row.bytes == (33 if word == "int4" else 65)


def test_formats_are_named():
    half = anatomy_of(
        model([node("Cast", ["w"], ["y"], to=1)], weights=[held("w", [1, 2], np.float16)])
    )
    assert "float16 weights" in half.formats
    four = model(
        [node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", bits=4, K=8, N=8)],
        weights=[held("w", np.ones((8, 1, 4)), np.uint8), held("s", np.ones(8))],
        domains=("com.microsoft",),
    )
    found = anatomy_of(four)
    assert "int4 weights in MatMulNBits, packed into bytes, 1 node(s)" in found.formats
    assert found.contrib == ("com.microsoft::MatMulNBits",)
    plain = anatomy_of(model([node("Relu", ["x"], ["y"])]))
    assert not plain.formats
    assert not (plain.custom or plain.contrib)


def test_custom_operators_are_told_from_functions_of_the_file():
    nodes = [
        node("Snake", ["x"], ["a"], domain="mine"),
        node("Twice", ["a"], ["y"], domain="local"),
    ]
    made = model(nodes, domains=("mine", "local"))
    made.functions.append(
        helper.make_function(
            "local",
            "Twice",
            ["v"],
            ["w"],
            [node("Add", ["v", "v"], ["w"])],
            [helper.make_opsetid("", 20)],
        )
    )
    found = anatomy_of(made)
    assert found.custom == ("mine::Snake",)
    assert found.functions == ("local::Twice",)


RELU = Kernel(op="Relu", domain="", first=14, last=99, types={"T": frozenset({"tensor(float)"})})


def test_kernels_are_looked_up_by_operator_type_and_opset():
    plain = model([node("Relu", ["x"], ["y"])])
    assert support_of(plain, (RELU,), "cpu").missing == {}
    half = model([node("Relu", ["x"], ["y"])], inputs={"x": (TensorProto.FLOAT16, [2])})
    assert support_of(half, (RELU,), "cpu").missing == {"Relu (float16)": 1}
    old = model([node("Relu", ["x"], ["y"])], opset=13)
    assert support_of(old, (RELU,), "cpu").missing == {"Relu": 1}
    unknown = model([node("Snake", ["x"], ["y"], domain="mine")], domains=("mine",))
    assert support_of(unknown, (RELU,), "cpu").missing == {"mine::Snake": 1}


def test_what_a_provider_does_not_tell_is_not_known():
    found = support_of(model([node("Relu", ["x"], ["y"])]), "no device", "cuda")
    assert found.why == "no device"
    assert found.missing is None


def test_this_onnxruntime_lists_its_own_kernels():
    kernels = kernels_of("cpu")
    if isinstance(kernels, str):
        pytest.skip(f"NOT LOOKED AT: {kernels}")
    plain = model([node("Relu", ["x"], ["a"]), node("Snake", ["a"], ["y"], domain="mine")],
                  domains=("mine",))  # fmt: skip
    assert support_of(plain, kernels, "cpu").missing == {"mine::Snake": 1}


def test_all_of_it_is_shown(tmp_path: Path):
    lines = "\n".join(inspection_lines(inspect(files.stream(tmp_path / "a.onnx", "draws"))))
    for text in (
        "made by elsewhere",
        "operators",
        "Conv",
        "float32",
        "known traps",
        "draw",
        "cpu: ",
    ):
        assert text in lines
    plain = "\n".join(inspection_lines(inspect(files.stream(tmp_path / "b.onnx"))))
    assert "known traps: none of the catalogue" in plain
