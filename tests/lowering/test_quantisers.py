"""Each engine lowers what it is asked for, and nothing of what stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.core.errors import UserInputError
from exporter.execution import quantisers
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.execution.quantisers import Order, write_lowered
from exporter.graph import onnx_file, onnx_file_writer
from exporter.graph.lowered.put_back import put_back


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two Gemms; says where it comes from, and has a certificate."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(64, 64)).astype(np.float32), f"w{n}")
        for n in range(2)
    ]
    bias = numpy_helper.from_array(np.zeros(64, np.float32), "b")
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b"], ["y"], name="one", transB=1),
        helper.make_node("Gemm", ["y", "w1", "b"], ["z"], name="two", transB=1),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64])] for name in ("x", "z")
    ]
    graph = helper.make_graph(nodes, "g", ends[0], ends[1], [*weights, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.metadata_props.add(key="export-verify.origin", value="here")
    path = tmp_path / "source.onnx"
    onnx.save(model, path)
    return path


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize(
    ("to", "kind"),
    [("int8", "MatMulInteger"), ("int4", "MatMulNBits"), ("mixed", "MatMulNBits")],
)
def test_what_stays_is_not_lowered(source: Path, tmp_path: Path, to: str, kind: str):
    for keep, count in ((frozenset[str](), 2), (frozenset({"one"}), 1)):
        write_lowered(source, tmp_path / "out.onnx", Order(to=to, keep=keep))
        assert kinds(tmp_path / "out.onnx").count(kind) == count
    plain = {t.name for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    assert "w0" in plain
    assert "w1" not in plain


def test_mixed_gives_eight_bits_to_those_that_need_them(source: Path, tmp_path: Path):
    write_lowered(source, tmp_path / "out.onnx", Order(to="mixed", eight=frozenset({"two"})))
    found = kinds(tmp_path / "out.onnx")
    assert found.count("MatMulNBits") == 1
    assert found.count("MatMulInteger") == 1


def test_float16_keeps_a_node_between_casts(source: Path, tmp_path: Path):
    write_lowered(source, tmp_path / "out.onnx", Order(to="float16", keep=frozenset({"one"})))
    held = {t.name: t.data_type for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    assert held["w0"] == TensorProto.FLOAT
    assert held["w1"] == TensorProto.FLOAT16


def test_two_nodes_that_stay_read_one_cast(source: Path, tmp_path: Path):
    model = onnx.load(source)
    model.graph.node.append(helper.make_node("Mul", ["y", "y"], ["squared"], name="square"))
    model.graph.node.append(helper.make_node("Add", ["squared", "z"], ["sum"], name="sum"))
    model.graph.output[0].name = "sum"
    onnx.save(model, source)
    keep = frozenset({"two", "square"})
    write_lowered(source, tmp_path / "out.onnx", Order(to="float16", keep=keep))
    made = [name for node in onnx.load(tmp_path / "out.onnx").graph.node for name in node.output]
    assert len(made) == len(set(made))
    x = {"x": np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)}
    found = [
        FileRun(p, Deployment(threads=1)).run(x)["sum"] for p in (source, tmp_path / "out.onnx")
    ]
    assert 0.0 < np.abs(found[0] - found[1]).max() < 0.01 * np.abs(found[0]).max()


FLOAT16_NODES = [
    helper.make_node("Mul", ["x", "huge"], ["loud"], name="loud"),
    helper.make_node("Div", ["loud", "huge"], ["back"], name="back"),
    helper.make_node("Mul", ["back", "step"], ["plain"], name="plain"),
    helper.make_node("SplitToSequence", ["plain"], ["rows"], name="split", keepdims=1),
    helper.make_node("ConcatFromSequence", ["rows"], ["again"], name="concat", axis=0),
    helper.make_node("Mul", ["again", "step"], ["end"], name="end"),
    helper.make_node("Add", ["plain", "end"], ["sum"], name="sum"),
]
"""Too loud for float16 in the middle; ``plain`` is an output, and is read as well. No file says of
what type a list is."""


@pytest.fixture
def in_halves(tmp_path: Path) -> tuple[Path, Path]:
    """A float32 file and the same in float16."""
    constants = [
        numpy_helper.from_array(np.array(number, np.float32), name)
        for name, number in (("huge", 7e5), ("step", 1.0001))
    ]
    given, *gives = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 8]) for n in ("x", "plain", "sum")
    )
    graph = helper.make_graph(FLOAT16_NODES, "g", [given], gives, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model)
    model.graph.value_info.remove(next(v for v in model.graph.value_info if v.name == "rows"))
    onnx.save(model, tmp_path / "source.onnx")
    write_lowered(tmp_path / "source.onnx", tmp_path / "all.onnx", Order(to="float16"))
    return tmp_path / "source.onnx", tmp_path / "all.onnx"


@pytest.mark.parametrize(
    ("keep", "as_exact"),
    [
        ({"loud", "back"}, set[str]()),
        ({"loud", "back", "plain"}, {"plain"}),
        ({"loud", "back", "split", "end"}, set[str]()),
        ({"loud", "back", "end", "sum"}, set[str]()),
        ({node.name for node in FLOAT16_NODES}, {"plain", "sum"}),
    ],
)
def test_what_stays_beside_float16_hands_float32_on(
    in_halves: tuple[Path, Path], tmp_path: Path, keep: set[str], as_exact: set[str]
):
    source, everything = in_halves
    write_lowered(
        source, tmp_path / "out.onnx", Order(to="float16", keep=frozenset(keep)), everything
    )
    x = {"x": np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)}
    runs = [FileRun(p, Deployment(threads=1)).run(x) for p in (source, tmp_path / "out.onnx")]
    for name, exact in runs[0].items():
        assert np.array_equal(runs[1][name], exact) == (name in as_exact), name
        assert np.allclose(runs[1][name], exact, rtol=0.01)


def test_what_nobody_lowers_has_no_casts(in_halves: tuple[Path, Path], tmp_path: Path):
    source, everything = in_halves
    keep = frozenset(node.name for node in FLOAT16_NODES)
    write_lowered(source, tmp_path / "out.onnx", Order(to="float16", keep=keep), everything)
    assert kinds(tmp_path / "out.onnx") == kinds(source)


def test_calibrated_files_have_grids(source: Path, tmp_path: Path):
    rows = [{"x": np.ones((3, 64), np.float32)}]
    order = Order(to="int8_static", keep=frozenset({"two"}), calibration=rows)
    write_lowered(source, tmp_path / "out.onnx", order)
    assert "QuantizeLinear" in kinds(tmp_path / "out.onnx")
    assert {t.name for t in onnx.load(tmp_path / "out.onnx").graph.initializer} >= {"w1"}


@pytest.mark.parametrize("to", ["int8", "int8_static", "int4", "mixed", "float16"])
def test_weights_that_lie_beside_the_file_are_lowered(source: Path, tmp_path: Path, to: str):
    beside = tmp_path / "beside" / "source.onnx"
    beside.parent.mkdir()
    onnx.save(
        onnx.load(source), beside, save_as_external_data=True, location="w", size_threshold=64
    )
    rows = [{"x": np.ones((3, 64), np.float32)}]
    order = Order(to=to, keep=frozenset({"two"}), calibration=rows)
    found = []
    for path in (source, beside):
        write_lowered(path, tmp_path / "out.onnx", order)
        found.append(FileRun(tmp_path / "out.onnx", Deployment(threads=1)).run(rows[0])["z"])
    assert np.array_equal(*found)
    assert sorted(p.name for p in beside.parent.iterdir()) == ["source.onnx", "w"]


@pytest.mark.parametrize("to", ["int8", "int8_static", "int4", "mixed", "float16"])
def test_what_no_protobuf_holds_is_lowered_and_its_weights_lie_beside(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
):
    rows = [{"x": np.ones((3, 64), np.float32)}]
    order = Order(to=to, calibration=rows)
    write_lowered(source, tmp_path / "plain.onnx", order)
    beside = tmp_path / "beside" / "source.onnx"
    beside.parent.mkdir()
    onnx.save(
        onnx.load(source), beside, save_as_external_data=True, location="w", size_threshold=64
    )
    for module in (quantisers, onnx_file, onnx_file_writer):
        monkeypatch.setattr(module, "EXTERNAL_LIMIT", 1000)
    write_lowered(beside, tmp_path / "out.onnx", order)
    assert (tmp_path / "out.onnx.data").is_file()
    assert sorted(p.name for p in beside.parent.iterdir()) == ["source.onnx", "w"]
    found = [
        FileRun(tmp_path / name, Deployment(threads=1)).run(rows[0])["z"]
        for name in ("plain.onnx", "out.onnx")
    ]
    assert np.array_equal(*found)


@pytest.mark.parametrize("to", ["int8", "int4", "mixed"])
@pytest.mark.parametrize(
    "keep", [frozenset({"one"}), frozenset({"two"}), frozenset({"one", "two"})]
)
def test_what_is_kept_later_is_put_back_and_nothing_rounded_anew(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, keep: frozenset[str]
):
    eight = frozenset({"two"})
    everything, engines, ours = (tmp_path / f"{name}.onnx" for name in ("all", "engine", "ours"))
    write_lowered(source, everything, Order(to=to, eight=eight))
    write_lowered(source, engines, Order(to=to, keep=keep, eight=eight))
    for engine in ("_dynamic", "_four_bits", "_mixed"):
        monkeypatch.setattr(quantisers, engine, None)
    write_lowered(source, ours, Order(to=to, keep=keep, eight=eight), everything)
    x = {"x": np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)}
    found = [FileRun(p, Deployment(threads=1)).run(x)["z"] for p in (engines, ours, everything)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[1], found[2])
    # Gemms stay what they are; the engine writes them in two nodes even where it keeps them.
    assert kinds(ours).count("Gemm") == len(keep)
    for kind in ("MatMulInteger", "MatMulNBits"):
        assert kinds(ours).count(kind) == kinds(engines).count(kind)
    assert {t.name for t in onnx.load(ours).graph.initializer}.isdisjoint(
        {f"w{n}_quantized" for n, name in enumerate(("one", "two")) if name in keep}
    )
    assert "export-verify.origin" in {item.key for item in onnx.load(ours).metadata_props}


def test_a_node_that_has_no_place_in_the_lowered_file_is_left_to_the_engine(
    source: Path, tmp_path: Path
):
    everything = tmp_path / "all.onnx"
    write_lowered(source, everything, Order(to="int8"))
    model = onnx.load(everything)
    for node in model.graph.node:  # its names are others than those of the float32 file
        node.input[:] = [f"{n}_" if n == "y" else n for n in node.input]
        node.output[:] = [f"{n}_" if n == "y" else n for n in node.output]
    onnx.save(model, everything)
    assert put_back(everything, source, {"one"}) is None
    assert put_back(everything, source, {"two", ""}) is None
    write_lowered(
        source, tmp_path / "out.onnx", Order(to="int8", keep=frozenset({"one"})), everything
    )
    assert kinds(tmp_path / "out.onnx").count("MatMulInteger") == 1


def test_the_origin_stays_and_the_certificate_goes(source: Path, tmp_path: Path):
    from exporter.core.artifact import CERTIFICATE_PREFIX

    model = onnx.load(source)
    model.metadata_props.add(key=f"{CERTIFICATE_PREFIX}verdict", value="pass")
    onnx.save(model, source)
    write_lowered(source, tmp_path / "out.onnx", Order(to="int8"))
    held = {item.key: item.value for item in onnx.load(tmp_path / "out.onnx").metadata_props}
    assert held == {"export-verify.origin": "here"}


def test_no_such_precision(source: Path, tmp_path: Path):
    with pytest.raises(UserInputError, match="int3"):
        write_lowered(source, tmp_path / "out.onnx", Order(to="int3"))
