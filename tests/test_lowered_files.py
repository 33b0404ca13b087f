"""Files in a lower precision: healthy ones agree value by value, a fault is in its own layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.report.comparison import LinkRecord
from exporter.report.schema import Report
from tests.support import lowered
from tests.support.lowered_faults import (
    INNER,
    clipped_in_front,
    half_again,
    next_channels_scale,
    one_beside,
    other_layers,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lowered")
    out = lowered.made(made)
    source, cases = out / "model.onnx", lowered.calibration()
    products = {"op_types_to_quantize": ["MatMul", "Conv", "Gemm"]}
    lowered.to_float16(source, made / "float16.onnx")
    lowered.to_dynamic(source, made / "dynamic.onnx")
    lowered.to_dynamic(source, made / "channels.onnx", per_channel=True, reduce_range=True)
    lowered.to_static(source, made / "qdq.onnx", cases, qdq=True)
    lowered.to_static(source, made / "qdq_channels.onnx", cases, qdq=True, per_channel=True)
    lowered.to_static(source, made / "operators.onnx", cases, qdq=False, **products)
    symmetric = {"extra_options": {"ActivationSymmetric": True}}
    lowered.to_static(source, made / "symmetric.onnx", cases, qdq=False, **symmetric)
    lowered.to_static(source, made / "lost_relu.onnx", cases, qdq=False)
    lowered.to_bits(source, made / "eight.onnx", 8)
    return made


def layers(report: Report) -> LinkRecord:
    return next(link for link in report.links if link.layers)


HEALTHY = (
    ("float16", "float16"),
    ("dynamic", "int8_weights"),
    ("channels", "int8_weights"),
    ("qdq", "int8_weights"),
    ("qdq_channels", "int8_weights"),
    ("operators", "int8_weights"),
    ("symmetric", "int8_weights"),
    ("eight", "int8_weights"),
)


@pytest.mark.parametrize(("name", "precision"), HEALTHY)
def test_a_healthy_file_agrees_at_every_value(folder: Path, name: str, precision: str):
    report = lowered.judged(folder, folder / f"{name}.onnx", precision)
    assert report.exit_code == 0, report.headline
    assert "on purpose" in report.headline
    assert {link.verdict for link in report.links} == {"pass"}
    assert (layers(report).compared or 0) > 45


def test_what_stays_in_float32_keeps_the_limit_of_float32(folder: Path):
    report = lowered.judged(folder, folder / "dynamic.onnx", "int8_weights")
    taps = {tap.name: tap for layer in layers(report).layers for tap in layer.taps}
    norm, product = taps["layer_norm"].local_verdict, taps["linear"].local_verdict
    assert norm is not None and norm.limit is not None and norm.limit < 1e-5
    assert product is not None and product.limit is not None and product.limit > 1e-2
    assert "what int8 costs here" in product.reason


def test_a_float32_file_keeps_its_limits_whatever_is_declared(folder: Path):
    report = lowered.judged(folder, folder / "out" / "model.onnx", "int8_weights")
    assert report.exit_code == 0
    limits = [output.verdict.limit for output in report.outputs]
    assert all(limit is not None and limit < 1e-5 for limit in limits)


FAULTS = (
    ("dynamic", half_again),
    ("dynamic", one_beside),
    ("dynamic", other_layers),
    ("channels", half_again),
    ("channels", one_beside),
    ("channels", next_channels_scale),
    ("qdq", half_again),
    ("qdq", one_beside),
    ("qdq", other_layers),
    ("qdq", clipped_in_front),
    ("operators", half_again),
    ("operators", other_layers),
)


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_a_fault_on_top_is_found_in_its_layer(
    folder: Path, tmp_path: Path, name: str, fault: Callable[[onnx.ModelProto, str], None]
):
    weight = lowered.weight_of(onnx.load(folder / "out" / "model.onnx"), 0)
    model = onnx.load(folder / f"{name}.onnx")
    fault(model, weight)
    onnx.save(model, tmp_path / "faulty.onnx")
    report = lowered.judged(folder, tmp_path / "faulty.onnx", "int8_weights")
    blamed = {culprit.layer for culprit in report.culprits}
    allowed = {INNER, "model.blocks.0.norm_forward"} if fault is clipped_in_front else {INNER}
    assert blamed and blamed <= allowed


def test_a_relu_that_a_quantiser_has_lost_is_found(folder: Path):
    """onnxruntime drops a Relu behind a Reshape in files of QLinear operators."""
    report = lowered.judged(folder, folder / "lost_relu.onnx", "int8_weights")
    assert report.exit_code == 1
    assert INNER in {culprit.layer for culprit in report.culprits}


def test_a_fault_in_a_float16_file_is_found_in_its_layer(folder: Path, tmp_path: Path):
    weight = lowered.weight_of(onnx.load(folder / "out" / "model.onnx"), 0)
    model = onnx.load(folder / "float16.onnx")
    held = lowered.values(model, weight).copy()
    held[3, 5] += np.float16(0.05)
    lowered.store(model, weight, held)
    onnx.save(model, tmp_path / "faulty.onnx")
    report = lowered.judged(folder, tmp_path / "faulty.onnx", "float16")
    assert {culprit.layer for culprit in report.culprits} == {INNER}


def test_moved_values_of_a_float16_file_are_compared_bit_for_bit(folder: Path, tmp_path: Path):
    model = onnx.load(folder / "float16.onnx")
    node = next(n for n in model.graph.node if n.output[0] == "transpose_2")
    node.op_type = "Reshape"
    del node.attribute[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 64, -1]), "swapped"))
    node.input.append("swapped")
    onnx.save(model, tmp_path / "faulty.onnx")
    report = lowered.judged(folder, tmp_path / "faulty.onnx", "float16")
    assert [c.tap for c in report.culprits] == ["transpose_2"]
    taps = {tap.name: tap for layer in layers(report).layers for tap in layer.taps}
    local = taps["transpose_3"].local
    assert local is not None and local["kind"] == "exact" and local["bitwise_equal"]
