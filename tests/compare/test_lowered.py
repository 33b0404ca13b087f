"""Files in a lower precision, without PyTorch: they cost what their format costs, and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.flows.compare import CompareOptions, compare
from exporter.report.two_files import TwoFiles
from tests.support import lowered
from tests.support import other_tools as tools
from tests.support.small_files import save

INNER = "net.blocks.0.inner"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lowered")
    source, cases = tools.legacy(made), lowered.calibration()
    lowered.to_float16(source, made / "float16.onnx")
    lowered.to_dynamic(source, made / "dynamic.onnx")
    lowered.to_static(source, made / "qdq.onnx", cases, qdq=True, per_channel=True)
    lowered.to_static(source, made / "operators.onnx", cases, qdq=False)
    lowered.to_bits(source, made / "bits.onnx", 8)
    return made


def against_its_source(folder: Path, file: Path) -> TwoFiles:
    precision = "float16" if file.stem.startswith("float16") else "int8"
    options = CompareOptions(precision=precision, sizes={"frames": 40})
    return compare(folder / "legacy.onnx", file, options)


FORMS = ("float16", "dynamic", "qdq", "operators", "bits")


@pytest.mark.parametrize("form", FORMS)
def test_what_a_format_costs_passes(folder: Path, form: str):
    report = against_its_source(folder, tools.renamed(folder / f"{form}.onnx"))
    assert report.exit_code == 0, report.headline
    lost = len(report.ambiguous) + len(report.alone)
    assert 1 - lost / report.candidates >= 0.95
    assert {row.verdict for row in report.values} == {"pass"}
    # The limits are no wider than the format: healthy values make use of them.
    assert max(row.local_strain or 0.0 for row in report.values) > 0.05


def test_what_stays_in_float32_keeps_its_limit(folder: Path):
    report = against_its_source(folder, folder / "dynamic.onnx")
    norm = next(row for row in report.values if row.op == "LayerNormalization")
    assert norm.local == "pass"
    wrong = tools.faulty(folder / "dynamic.onnx", tools.epsilon)
    assert against_its_source(folder, wrong).exit_code == 1


def test_a_coarser_format_than_declared_fails(folder: Path):
    report = compare(folder / "legacy.onnx", folder / "dynamic.onnx")
    assert report.exit_code == 1


def _weight(model: onnx.ModelProto, end: str) -> str:
    """What holds blocks.0.inner's weight in eight bits; its name up to ``end``."""
    found = (t.name for t in model.graph.initializer if tuple(t.dims) == (64, 128))
    return next(name.removesuffix(end) for name in found if name.endswith(end))


def half_again(model: onnx.ModelProto) -> None:
    name = _weight(model, "_quantized") + "_scale"
    lowered.store(model, name, lowered.values(model, name) * np.float32(1.5))


def one_beside(model: onnx.ModelProto) -> None:
    name = _weight(model, "_quantized") + "_zero_point"
    held = lowered.values(model, name)
    lowered.store(model, name, (held + 1).astype(held.dtype))


def other_layers(model: onnx.ModelProto) -> None:
    names = [t.name for t in model.graph.initializer if tuple(t.dims) == (64, 128)]
    held = [name for name in names if name.endswith("_quantized")]
    lowered.store(model, held[0], lowered.values(model, held[1]))


def next_channels_scale(model: onnx.ModelProto) -> None:
    name = _weight(model, "_quantized") + "_scale"
    lowered.store(model, name, np.roll(lowered.values(model, name), 1))


def along_the_other_axis(model: onnx.ModelProto) -> None:
    """The channels' scales of blocks.0's attention, a square weight's, lie along the rows."""
    weights = {t.name: tuple(t.dims) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and weights.get(node.input[0]) == (64, 64):
            axis = next(item for item in node.attribute if item.name == "axis")
            axis.i = 0
            return


def wrong_block(model: onnx.ModelProto) -> None:
    node = [n for n in model.graph.node if n.op_type == "MatMulNBits"][3]
    held = lowered.values(model, node.input[2]).copy()
    held.reshape(-1)[7] *= 3
    lowered.store(model, node.input[2], held)


def a_twentieth_more(model: onnx.ModelProto) -> None:
    """The scale of the LSTM's recurrent weight."""
    node = next(n for n in model.graph.node if n.op_type == "DynamicQuantizeLSTM")
    lowered.store(model, node.input[10], lowered.values(model, node.input[10]) * np.float32(1.05))


FAULTS = (
    ("dynamic", half_again, INNER),
    ("dynamic", a_twentieth_more, "recurrent"),
    ("dynamic", one_beside, INNER),
    ("dynamic", other_layers, INNER),
    ("dynamic", tools.epsilon, "blocks.0.norm_forward"),
    ("qdq", half_again, INNER),
    ("qdq", one_beside, INNER),
    ("qdq", next_channels_scale, INNER),
    ("qdq", along_the_other_axis, "blocks.0.attention.out"),
    ("qdq", tools.epsilon, "blocks.0.norm_forward"),
    ("operators", half_again, INNER),
    ("operators", other_layers, INNER),
    ("bits", wrong_block, INNER),
    ("bits", tools.epsilon, "blocks.0.norm_forward"),
    ("float16", tools.one_weight, INNER),
    ("float16", tools.mask, "net"),
)


@pytest.mark.parametrize(("form", "fault", "layer"), FAULTS)
def test_a_fault_on_top_is_found_in_its_layer(
    folder: Path, form: str, fault: Callable[[onnx.ModelProto], None], layer: str
):
    report = against_its_source(folder, tools.faulty(folder / f"{form}.onnx", fault))
    assert report.exit_code == 1
    assert report.first is not None
    assert layer in report.first.layer, report.headline


def test_a_file_that_decides_otherwise_on_its_own_numbers_has_other_sizes(tmp_path: Path):
    """What is above a threshold: rounding a weight to float16 takes one element across."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((8, 8)).astype(np.float32)
    x = random.standard_normal((4, 8)).astype(np.float32)
    half = weight.astype(np.float16)
    sums, rounded = (x @ weight).ravel(), (x @ half.astype(np.float32)).ravel()
    at = np.argmax(np.abs(sums - rounded))
    threshold = (sums[at] + rounded[at]) / 2
    node = onnx.helper.make_node
    for name, held in (("truth", weight), ("half", half)):
        constants = {"w": held, "three": np.float32(3), "flat": np.array([-1])}
        constants["threshold"] = np.float32(threshold)
        nodes = [
            node("Cast", ["w"], ["wide"], to=onnx.TensorProto.FLOAT),
            node("MatMul", ["x", "wide"], ["sums"]),
            node("Reshape", ["sums", "flat"], ["row"]),
            node("Greater", ["row", "threshold"], ["above"]),
            node("Compress", ["row", "above"], ["some"], axis=0),
            node("Mul", ["some", "three"], ["thrice"]),
            node("Relu", ["thrice"], ["y"]),
        ]
        given = {"x": (onnx.TensorProto.FLOAT, [4, 8])}
        save(tmp_path / f"{name}.onnx", nodes, given, ["y"], constants)
    np.savez(tmp_path / "case.npz", x=x)
    options = CompareOptions(case=tmp_path / "case.npz", precision="float16")
    report = compare(tmp_path / "truth.onnx", tmp_path / "half.onnx", options)
    assert report.exit_code == 1
    assert "shape" in report.outputs[0].reason
    by_name = {row.actual: row for row in report.values}
    assert by_name["sums"].verdict == "pass"
    # Alone, on the truth's decision, they are right.
    assert by_name["some"].local == by_name["thrice"].local == "pass"
