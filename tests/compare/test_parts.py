"""One product that is cut into queries, keys and values: a fault in it is the product's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from exporter.flows.compare import compare
from tests.support.small_files import save

WIDTH = 8


def attention(path: Path, weight: np.ndarray) -> Path:
    """``softmax(q k') v`` and a layer behind; modules stand there as in files that are shipped.

    Args:
        weight: [8, 24], queries, keys and values.
    """
    random = np.random.default_rng(1)
    weights = {
        "qkv_w": weight,
        "qkv_b": random.standard_normal(3 * WIDTH).astype(np.float32),
        "out_w": random.standard_normal((WIDTH, WIDTH)).astype(np.float32),
    }
    nodes = {
        "attention.qkv": [
            helper.make_node("MatMul", ["x", "qkv_w"], ["product"]),
            helper.make_node("Add", ["product", "qkv_b"], ["sum"]),
        ],
        "attention": [
            helper.make_node("Split", ["sum"], ["q", "k", "v"], axis=-1, num_outputs=3),
            helper.make_node("Transpose", ["k"], ["turned"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["q", "turned"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
            helper.make_node("MatMul", ["weights", "v"], ["mixed"]),
        ],
        "attention.out": [helper.make_node("MatMul", ["mixed", "out_w"], ["y"])],
    }
    for module, made in nodes.items():
        for node in made:
            node.metadata_props.add(key="namespace", value=module.replace(".", "/"))
    given = {"x": (TensorProto.FLOAT, [1, "frames", WIDTH])}
    return save(path, sum(nodes.values(), []), given, ["y"], weights, opset=18)


def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((WIDTH, 3 * WIDTH)).astype(np.float32)


@pytest.mark.parametrize("part", range(3))
def test_a_wrong_weight_of_one_part_is_the_products(tmp_path: Path, part: int):
    wrong = weight()
    wrong[3, WIDTH * part + 5] += 0.5
    truth = attention(tmp_path / "truth.onnx", weight())
    report = compare(truth, attention(tmp_path / "other.onnx", wrong))
    assert report.exit_code == 1
    assert report.first is not None and report.first.actual == "product"
    assert report.first.layer == "attention.qkv"
    assert "weight 'qkv_w' of MatMul" in report.headline
    assert not report.alone and not report.ambiguous
