"""Rows of an embedding that are stored in eight bits, and read as numbers behind the look-up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

from exporter.flows.compare import CompareOptions, compare
from tests.support.small_files import save


def words(folder: Path, *, between: bool) -> Path:
    """Ids of words to scores, by an embedding and a matrix, with or without a bias between them."""
    random = np.random.default_rng(0)
    arrays = {
        "table": random.standard_normal((40, 64)).astype(np.float32),
        "matrix": random.standard_normal((64, 32)).astype(np.float32) / 8,
        "bias": random.standard_normal(64).astype(np.float32),
    }
    looked_up = "rows" if between else "moved"
    nodes = [
        helper.make_node("Gather", ["table", "ids"], [looked_up], name="look_up"),
        helper.make_node("MatMul", ["moved", "matrix"], ["scores"], name="product"),
    ]
    if between:
        nodes.insert(1, helper.make_node("Add", ["rows", "bias"], ["moved"], name="add"))
    given = {"ids": (TensorProto.INT64, ["n"])}
    return save(folder / "words.onnx", nodes, given, ["scores"], arrays)


@pytest.fixture(params=["DequantizeLinear", "MatMulInteger"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, Path]:
    """The file, what quantize_dynamic makes of it, and ids of words.

    The parameter is what reads the rows as numbers: they are written as such, or not at all.
    """
    lowered, case = tmp_path / "int8.onnx", tmp_path / "case.npz"
    path = words(tmp_path, between=request.param == "DequantizeLinear")
    quantize_dynamic(path, lowered)
    reader = next(
        n
        for n in onnx.load(lowered).graph.node
        if "rows_quantized" in n.input[:1] or "moved_quantized" in n.input[:1]
    )
    assert reader.op_type == request.param
    np.savez(case, ids=np.arange(40, dtype=np.int64))
    return path, lowered, case


def test_an_embedding_in_eight_bits_costs_what_they_cost(pair):
    path, lowered, case = pair
    report = compare(path, lowered, CompareOptions(case=case, precision="int8"))
    assert report.verdict == "pass", report.headline
    assert max(row.local_strain or 0.0 for row in report.values) > 0.05


def test_a_wrong_row_is_found(pair):
    path, lowered, case = pair
    model = onnx.load(lowered)
    (table,) = (t for t in model.graph.initializer if t.name == "table_quantized")
    codes = numpy_helper.to_array(table).copy()
    codes[7] = codes[7, ::-1]
    table.CopyFrom(numpy_helper.from_array(codes, table.name))
    onnx.save(model, lowered)
    report = compare(path, lowered, CompareOptions(case=case, precision="int8"))
    assert report.verdict == "fail" and report.first is not None
    assert report.first.actual in ("rows", "scores")


def test_a_wrong_step_is_found(pair):
    path, lowered, case = pair
    model = onnx.load(lowered)
    (step,) = (t for t in model.graph.initializer if t.name == "table_scale")
    step.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(step) * np.float32(1.5), step.name))
    onnx.save(model, lowered)
    report = compare(path, lowered, CompareOptions(case=case, precision="int8"))
    assert report.verdict == "fail"
