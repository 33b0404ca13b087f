"""Files in a lower precision: healthy ones agree value by value, a fault is in its own layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.report.comparison import LinkRecord
from exporter.report.schema import Report
from tests.support import lowered, lowered_by_others
from tests.support.lowered_faults import FAULTS, INNER, Fault

FORMS = (
    *("float16", "dynamic", "channels", "qdq", "qdq_channels", "operators"),
    *("symmetric", "eight", "four", "sim_dynamic", "sim_qdq"),
)
"""The others of ``lowered_by_others`` are judged by ``scripts/lowered_table.py``, as are all faults
of ``lowered_faults``; onnxconverter-common, which two of them need, is no dependency."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lowered")
    source = lowered.made(made) / "model.onnx"
    for name in FORMS:
        lowered_by_others.FORMS[name].make(source, made / f"{name}.onnx")
    lowered.to_static(source, made / "lost_relu.onnx", lowered.calibration(), qdq=False)
    return made


def layers(report: Report) -> LinkRecord:
    return next(link for link in report.links if link.layers)


@pytest.mark.parametrize("name", FORMS)
def test_a_healthy_file_agrees_at_every_value(folder: Path, name: str):
    precision = lowered_by_others.FORMS[name].precision
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


def _chosen() -> Iterator[Fault]:
    """Each way to be wrong once, and all of three forms."""
    seen: Counter[str] = Counter()
    for fault in FAULTS:
        seen[fault.name] += 1
        if seen[fault.name] == 1 or fault.form in ("channels", "operators", "qdq"):
            yield fault


@pytest.mark.parametrize("fault", _chosen(), ids=lambda fault: f"{fault.form}-{fault.name}")
def test_a_fault_on_top_is_found_in_its_layer(folder: Path, tmp_path: Path, fault: Fault):
    weight = lowered.weight_of(onnx.load(folder / "out" / "model.onnx"), 0)
    model = onnx.load(folder / f"{fault.form}.onnx")
    fault.plant(model, weight)
    onnx.save(model, tmp_path / "faulty.onnx")
    precision = lowered_by_others.FORMS[fault.form].precision
    report = lowered.judged(folder, tmp_path / "faulty.onnx", precision)
    blamed = {culprit.layer for culprit in report.culprits}
    assert blamed and blamed <= fault.layers


def test_a_relu_that_a_quantiser_has_lost_is_found(folder: Path):
    """onnxruntime drops a Relu behind a Reshape in files of QLinear operators."""
    report = lowered.judged(folder, folder / "lost_relu.onnx", "int8_weights")
    assert report.exit_code == 1
    assert INNER in {culprit.layer for culprit in report.culprits}


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
