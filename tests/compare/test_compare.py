"""Two ONNX files without PyTorch: the same function in another graph, or where it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter import cli
from exporter.core.errors import UserInputError
from exporter.flows.compare import CompareOptions, compare
from exporter.report.two_files import print_two_files
from tests.support import other_tools as tools
from tests.support.small_files import save

TOOLS: dict[str, Callable[[Path], Path]] = {
    "onnxsim": tools.simplified,
    "ort": tools.optimised,
    "converter": tools.converted,
    "renamed": tools.renamed,
}


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools.legacy(tmp_path_factory.mktemp("legacy"))


@pytest.fixture(scope="module")
def made(legacy: Path) -> dict[str, Path]:
    return {name: make(legacy) for name, make in TOOLS.items()}


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_tool_has_written_anew_is_the_same_function(legacy: Path, made: dict, tool: str):
    report = compare(legacy, made[tool])
    assert report.exit_code == 0, report.headline
    assert report.headline.startswith("same function")
    lost = len(report.ambiguous) + len(report.alone)
    assert 1 - lost / report.candidates >= 0.8
    assert not report.altered
    # Without names and metadata, what is left is what it is made of, and its numbers.
    if tool == "renamed":
        assert set(report.joined) == {"interface", "structure", "numbers"} - (
            {"numbers"} - report.joined.keys()
        )
    if tool in ("ort", "onnxsim"):
        assert "other graph" in report.headline


def test_a_file_is_the_same_graph_as_its_copy(legacy: Path, tmp_path: Path):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(legacy.read_bytes())
    report = compare(legacy, copy)
    assert report.exit_code == 0
    assert report.same_graph
    assert "same graph" in report.headline
    assert not report.rewritten
    # The same nodes throughout: nothing is measured alone, and no figure says that it was.
    assert all(row.local is None and row.local_strain is None for row in report.values)
    assert all(row.verdict == row.propagated == "pass" for row in report.values)


def test_what_has_the_same_nodes_is_not_measured_alone(legacy: Path, made: dict, capsys):
    wrong = tools.faulty(made["renamed"], tools.one_weight)
    report = compare(legacy, wrong)
    measured = [row for row in report.values if row.local is not None]
    # Bits of a weight decide where the graph is the same; only there is anything to measure.
    assert [row.layer for row in measured] == ["net.blocks.0.inner"] or len(measured) < 4, measured
    assert report.first is not None and report.first.local == "fail"
    assert {row.actual for row in report.values if row.local == "fail"} == {report.first.actual}
    behind = [row for row in report.values if row.local is None and row.propagated == "fail"]
    assert behind and all(row.verdict == "fail" for row in behind)
    print_two_files(report.model_copy(update={"values": behind}), verbose=True)
    assert "same nodes" in capsys.readouterr().out


LAYERS = {
    tools.one_weight: "blocks.0.inner",
    tools.epsilon: "blocks.0.norm_forward",
    tools.mask: "net",
}


@pytest.mark.parametrize("fault", LAYERS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("tool", ["ort", "renamed"])
def test_a_planted_fault_is_found_in_its_layer(
    legacy: Path, made: dict, tool: str, fault: tools.Fault
):
    report = compare(legacy, tools.faulty(made[tool], fault))
    assert report.exit_code == 1
    assert report.first is not None
    assert LAYERS[fault] in report.first.layer, report.headline
    if fault is tools.mask:
        assert report.first.op == "LessOrEqual" or "attention" in report.first.layer
    assert "not the same function" in report.headline
    # Behind the fault values are joined as in the healthy file.
    lost = len(report.ambiguous) + len(report.alone)
    assert 1 - lost / report.candidates >= 0.8


def test_a_weight_that_no_number_shows_is_found_by_its_bits(legacy: Path, made: dict):
    report = compare(legacy, tools.faulty(made["renamed"], tools.one_rounding))
    assert report.exit_code == 1
    assert len(report.altered) == 1
    assert "blocks.0.inner" in report.altered[0].layer
    assert "1 of 8,192 elements" in report.altered[0].words


def test_a_fused_operator_is_said_in_words(tmp_path: Path):
    apart = tools.legacy(tmp_path, opset=16, build="plain")
    report = compare(apart, tools.optimised(apart))
    assert report.exit_code == 0, report.headline
    fused = [line for line in report.rewritten if line.startswith("LayerNormalization fused from")]
    assert fused and "nine nodes" in fused[0]


def test_either_file_may_be_the_truth(legacy: Path, made: dict):
    wrong = tools.faulty(made["ort"], tools.epsilon)
    for pair in ((legacy, wrong), (wrong, legacy)):
        report = compare(*pair)
        assert report.exit_code == 1
        assert report.first is not None and "norm_forward" in report.first.layer


def test_a_case_of_the_users_is_compared(legacy: Path, made: dict, tmp_path: Path):
    case = tmp_path / "case.npz"
    x = np.random.default_rng(3).standard_normal((1, 21, 16)).astype(np.float32)
    np.savez(case, x=x, lengths=np.array([21]))
    report = compare(legacy, made["ort"], CompareOptions(case=case))
    assert report.exit_code == 0
    assert report.cases == ["case 1"]
    np.savez(case, x=x)
    with pytest.raises(UserInputError, match="no array 'lengths'"):
        compare(legacy, made["ort"], CompareOptions(case=case))


def test_a_mask_that_no_row_here_needs_is_found_by_its_operator(
    legacy: Path, made: dict, tmp_path: Path
):
    """No row is padded: one frame more or less changes nothing on this case."""
    case = tmp_path / "case.npz"
    x = np.random.default_rng(3).standard_normal((1, 21, 16)).astype(np.float32)
    np.savez(case, x=x, lengths=np.array([21]))
    options = CompareOptions(case=case)
    for tool in ("ort", "renamed"):
        report = compare(legacy, tools.faulty(made[tool], tools.mask), options)
        assert report.exit_code == 1, report.headline
        assert "where the other file has" in report.headline, report.headline
        assert compare(legacy, made[tool], options).exit_code == 0


def _above(path: Path, threshold: float) -> Path:
    """x -> 2 x -> what of it is above a threshold."""
    node = onnx.helper.make_node
    nodes = [
        node("MatMul", ["x", "two"], ["doubled"]),
        node("Reshape", ["doubled", "flat"], ["row"]),
        node("Greater", ["row", "threshold"], ["kept"]),
        node("Compress", ["row", "kept"], ["y"], axis=0),
    ]
    constants = {
        "two": 2 * np.eye(8, dtype=np.float32),
        "threshold": np.float32(threshold),
        "flat": np.array([-1]),
    }
    given = {"x": (onnx.TensorProto.FLOAT, [4, 8])}
    return save(path, nodes, given, ["y"], constants)


def test_an_output_that_the_judged_file_alone_leaves_empty_is_its_fault(tmp_path: Path):
    some, none = _above(tmp_path / "some.onnx", 0.0), _above(tmp_path / "none.onnx", 1e9)
    report = compare(some, none)
    assert report.exit_code == 1
    assert [row.verdict for row in report.outputs] == ["fail"]
    assert "(0,)" in report.outputs[0].reason
    assert compare(some, some).exit_code == 0
    with pytest.raises(UserInputError, match="an output is empty"):
        compare(none, some)


def test_a_file_with_other_inputs_is_refused(legacy: Path, tmp_path: Path):
    model = onnx.load(legacy)
    for node in model.graph.node:
        node.input[:] = ["signal" if name == "x" else name for name in node.input]
        node.input[:] = ["sizes" if name == "lengths" else name for name in node.input]
    model.graph.input[0].name, model.graph.input[1].name = "signal", "sizes"
    other = tmp_path / "other.onnx"
    onnx.save(model, other)
    # Told apart by what they take, and proved by numbers.
    assert compare(legacy, other).exit_code == 0
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 1
    onnx.save(model, other)
    with pytest.raises(UserInputError, match="none of the other file's"):
        compare(legacy, other)


def test_the_command_prints_json_and_a_verdict(legacy: Path, made: dict, capsys):
    assert cli.main(["compare", str(legacy), str(made["ort"]), "--format", "json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held["verdict"] == "pass"
    assert held["joined"]["scope"] > 0 or held["joined"]["name"] > 0
    wrong = tools.faulty(made["ort"], tools.one_weight)
    assert cli.main(["compare", str(legacy), str(wrong)]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("FAIL: not the same function: first in layer")
    assert "floating values are joined" in shown


def test_a_file_is_compared_with_itself_on_levels_and_threads(legacy: Path, capsys):
    assert cli.main(["compare", str(legacy), "--levels", "--threads", "--format", "json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert len(held["deployments"]) == 6
    assert {row["deployment"] for row in held["outputs"]} == set(held["deployments"])


def test_what_cannot_be_compared_is_said(legacy: Path, tmp_path: Path, capsys):
    assert cli.main(["compare", str(legacy)]) == 2
    assert cli.main(["compare", str(legacy), str(tmp_path / "none.onnx")]) == 2
    assert cli.main(["compare", str(legacy), str(legacy), "--size", "frames"]) == 2
    assert cli.main(["compare", str(legacy), "--versions", "newest"]) == 2
    assert "is no release of onnxruntime" in capsys.readouterr().err
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    assert cli.main(["compare", str(legacy), str(broken)]) == 2


def test_it_needs_no_torch():
    code = (
        "import sys; import exporter.flows.compare, exporter.commands.compare;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
