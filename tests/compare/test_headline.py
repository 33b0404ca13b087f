"""The one line of a comparison says what was seen, and no more than that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ml_dtypes import bfloat16
from onnx import TensorProto, helper, numpy_helper

from exporter.flows.compare import CompareOptions, compare

node = helper.make_node


def _file(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> Path:
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "frames", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "frames", 8])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)


def _normalised(path: Path, *, spread: bool, epsilon: float = 1e-5) -> Path:
    """Normalises what is large beside its spread; ``spread``: as E[x x] - E[x] E[x]."""
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("Add", ["m", "forty"], ["t"]),
        node("ReduceMean", ["t"], ["mean"], axes=[1, 2]),
        node("Sub", ["t", "mean"], ["d"]),
    ]
    if spread:
        nodes += [
            node("Mul", ["t", "t"], ["tt"]),
            node("ReduceMean", ["tt"], ["squares"], axes=[1, 2]),
            node("Mul", ["mean", "mean"], ["mm"]),
            node("Sub", ["squares", "mm"], ["v"]),
        ]
    else:
        nodes += [node("Mul", ["d", "d"], ["dd"]), node("ReduceMean", ["dd"], ["v"], axes=[1, 2])]
    nodes += [
        node("Add", ["v", "epsilon"], ["e"]),
        node("Sqrt", ["e"], ["s"]),
        node("Div", ["d", "s"], ["y"]),
    ]
    weights = {"w": _weight(), "forty": np.float32(40), "epsilon": np.float32(epsilon)}
    return _file(path, nodes, weights)


def test_a_file_that_loses_digits_is_not_called_another_function(tmp_path: Path):
    truth = _normalised(tmp_path / "truth.onnx", spread=False)
    report = compare(truth, _normalised(tmp_path / "other.onnx", spread=True))
    assert report.exit_code == 1
    assert report.headline.startswith("the same function in float64, but not in float32: first in")
    assert "'v' (Sub)" in report.headline


def test_one_that_loses_digits_and_has_another_epsilon_is_another_function(tmp_path: Path):
    truth = _normalised(tmp_path / "truth.onnx", spread=False)
    other = _normalised(tmp_path / "other.onnx", spread=True, epsilon=1e-2)
    report = compare(truth, other)
    assert report.headline.startswith("not the same function: first in 'e' (Add): weight 'epsilon'")


@pytest.mark.parametrize(("precision", "exit_code"), [("float32", 1), ("bfloat16", 0)])
def test_a_format_that_was_not_declared_is_named(tmp_path: Path, precision: str, exit_code: int):
    """Not "error is 0.1 times its limit", which fails nothing."""
    short = _weight().astype(bfloat16)
    ends = [node("MatMul", ["x", "w"], ["m"]), node("Tanh", ["m"], ["y"])]
    truth = _file(tmp_path / "truth.onnx", ends, {"w": short.astype(np.float32)})
    cast = node("Cast", ["short"], ["w"], to=TensorProto.FLOAT)
    other = _file(tmp_path / "other.onnx", [cast, *ends], {"short": short})
    report = compare(truth, other, CompareOptions(precision=precision))
    assert report.exit_code == exit_code, report.headline
    if exit_code:
        assert "holds bfloat16 here, coarser than the declared precision" in report.headline
        assert "times its limit" not in report.headline


def test_a_format_that_was_not_declared_is_named_beside_an_error_that_is_large(tmp_path: Path):
    """Both: what the file holds is why, and how far off it is says whether that matters."""
    ends = [node("MatMul", ["x", "w"], ["m"]), node("Tanh", ["m"], ["y"])]
    truth = _file(tmp_path / "truth.onnx", ends, {"w": _weight()})
    cast = node("Cast", ["short"], ["w"], to=TensorProto.FLOAT)
    short = _weight().astype(bfloat16)
    other = _file(tmp_path / "other.onnx", [cast, *ends], {"short": short})
    report = compare(truth, other)
    said = "holds bfloat16 here, coarser than the declared precision (float32); error is "
    assert report.exit_code == 1
    assert said in report.headline and report.headline.endswith(" times its limit")
    assert all(said in row.reason for row in report.outputs)


def test_nobody_speaks_of_pytorch(tmp_path: Path):
    """The other file stands where PyTorch stands elsewhere: it is missing NaN, sizes, figures."""
    truth = _file(tmp_path / "truth.onnx", [node("MatMul", ["x", "w"], ["y"])], {"w": _weight()})
    broken = [
        node("MatMul", ["x", "w"], ["m"]),
        node("Log", ["m"], ["l"]),
        node("Concat", ["l", "l"], ["y"], axis=1),
    ]
    report = compare(truth, _file(tmp_path / "other.onnx", broken, {"w": _weight()}))
    (row,) = report.outputs
    assert "shape change: the other file (1, " in row.reason and ", this file (1, " in row.reason
    broken[-1] = node("Identity", ["l"], ["y"])
    report = compare(truth, _file(tmp_path / "other.onnx", broken, {"w": _weight()}))
    assert report.outputs[0].reason.startswith("NaN: ")
    assert " in this file, 0 in the other file, 0 in float64" in report.outputs[0].reason


def test_values_without_a_partner_are_in_the_line(tmp_path: Path):
    """Computed at twice the size, and halved behind."""
    ends = [node("MatMul", ["x", "w"], ["m"]), node("MatMul", ["m", "u"], ["y"])]
    weights = {"w": _weight(), "u": _weight().T.copy()}
    truth = _file(tmp_path / "truth.onnx", ends, weights)
    doubled = [
        node("MatMul", ["x", "ww"], ["mm"]),
        node("Mul", ["mm", "half"], ["m"]),
        node("MatMul", ["m", "u"], ["y"]),
    ]
    held = {"ww": 2 * _weight(), "u": weights["u"], "half": np.float32(0.5)}
    report = compare(truth, _file(tmp_path / "other.onnx", doubled, held))
    assert report.exit_code == 0
    assert report.headline.endswith("1 output agree; 1 more rest on those behind them")
    assert compare(truth, truth).headline.endswith("1 output agree")
