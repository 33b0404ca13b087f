"""Decisions that fall otherwise for what is in front of them are in doubt, and not wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from exporter.flows.compare import compare
from tests.support.small_files import save


def chooses(path: Path, *, otherwise: bool = False, op: str = "ArgMax") -> Path:
    """Which of two scores is the larger one, which are equal but for a rounding.

    Args:
        otherwise: the second is computed in another way, and is smaller by a rounding. op: that
            decides.
    """
    node = helper.make_node
    second = [node("Mul", ["m", "more"], ["s"])]
    if otherwise:
        second = [node("Mul", ["m", "little"], ["d"]), node("Sub", ["m", "d"], ["s"])]
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        *second,
        node("Concat", ["m", "s"], ["scores"], axis=-1),
        node(op, ["scores"], ["ids"], axis=-1, keepdims=0),
    ]
    weights = {
        "w": np.random.default_rng(0).standard_normal((8, 1)),
        "more": 1 + 2.0**-22,
        "little": 2.0**-23,
    }
    return save(
        path,
        nodes,
        {"x": (TensorProto.FLOAT, ["frames", 8])},
        ["ids"],
        {name: np.asarray(value, np.float32) for name, value in weights.items()},
        gives=TensorProto.INT64,
    )


@pytest.mark.parametrize(("op", "verdict"), [("ArgMax", "ambiguous"), ("ArgMin", "fail")])
def test_a_choice_that_falls_otherwise_for_a_rounding_is_in_doubt(
    tmp_path: Path, op: str, verdict: str
):
    """The same operator on the same scores decides alike; another one does not."""
    truth = chooses(tmp_path / "truth.onnx")
    other = chooses(tmp_path / "other.onnx", otherwise=op == "ArgMax", op=op)
    report = compare(truth, other)
    assert (report.verdict, report.exit_code) == (verdict, 1), report.headline
    (row,) = report.outputs
    assert row.verdict == verdict and " differ, the first at " in row.reason
