"""A golden from a file alone: marked wherever it is shown; tools' graphs are judged by numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, version_converter

from exporter.cli import main
from exporter.config import Pipeline
from exporter.config.load import load_pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import GoldenError, UserInputError
from exporter.flows.golden_check import check
from exporter.flows.golden_record import record_file
from exporter.flows.golden_report import golden_report
from exporter.flows.init_file import init_file, write_description
from exporter.golden.diff import diff_goldens
from exporter.golden.outcome import CheckOutcome, State
from exporter.golden.store import read_golden, write_golden
from exporter.golden.values import NOT_VOUCHED
from exporter.report import golden_check as shown
from tests.support import small_files as files
from tests.support.other_tools import optimised


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, RunOptions]:
    folder = tmp_path_factory.mktemp("recorded")
    path = files.stream(folder / "stream.onnx")
    write_description(init_file(path), folder / "stream.yaml")
    pipeline = load_pipeline(folder / "stream.yaml")
    options = RunOptions(golden_dir=folder / "golden", output_dir=folder / "out")
    record_file(pipeline, options, reason="first")
    return pipeline, options


def checked(recorded: tuple[Pipeline, RunOptions], path: Path | None = None) -> CheckOutcome:
    pipeline, options = recorded
    return check(pipeline, options, onnx=path)


def changed(
    recorded: tuple[Pipeline, RunOptions], place: Path, *changes: Callable[[onnx.ModelProto], None]
) -> Path:
    model = onnx.load(str(recorded[0].file_alone))
    for change in changes:
        change(model)
    onnx.save(model, str(place))
    return place


def with_identity(model: onnx.ModelProto) -> None:
    """What a tool does that writes a graph anew: a node more, a value under another name."""
    at = next(k for k, node in enumerate(model.graph.node) if node.op_type == "Tanh")
    last = model.graph.node[at]
    model.graph.node.insert(at, helper.make_node("Identity", [last.input[0]], ["passed"]))
    model.graph.node[at + 1].input[0] = "passed"


def other_weight(model: onnx.ModelProto) -> None:
    weight = next(t for t in model.graph.initializer if t.name == "w")
    array = numpy_helper.to_array(weight).copy()
    array.reshape(-1)[0] *= 1.01
    weight.CopyFrom(numpy_helper.from_array(array, "w"))


def other_attribute(model: onnx.ModelProto) -> None:
    """Nothing of it shows in a number: a convolution of one group says how it is padded."""
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    node.attribute.append(helper.make_attribute("dilations", [1]))
    node.attribute.append(helper.make_attribute("auto_pad", "VALID"))


def test_the_same_file_is_the_same(recorded: tuple[Pipeline, RunOptions]):
    outcome = checked(recorded)
    assert outcome.state is State.SAME
    assert outcome.exit_code == 0
    assert not outcome.vouched
    (case,) = outcome.cases
    assert case.compared > 5


def test_the_mark_stands_wherever_it_is_shown(
    recorded: tuple[Pipeline, RunOptions], capsys: pytest.CaptureFixture[str]
):
    pipeline, options = recorded
    outcome = checked(recorded)
    assert NOT_VOUCHED in shown.golden_lines(outcome)[0]
    for text in (
        shown.golden_headline(outcome),
        shown.golden_json(outcome),
        shown.golden_summary(outcome),
        golden_report(pipeline, outcome, options).model_dump_json(),
    ):
        assert NOT_VOUCHED in text
    assert main(["golden", "list", "--golden-dir", str(options.golden_dir)]) == 0
    assert NOT_VOUCHED in capsys.readouterr().out
    words = ["golden", "list", "--golden-dir", str(options.golden_dir), "--format", "json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)[0]["vouched"] is False
    manifest = json.loads((options.golden_dir / pipeline.name / "manifest.json").read_text())
    assert manifest["judged"]["verdict"] == "not judged"


def test_what_a_file_gives_replaces_no_golden_of_pytorch(
    recorded: tuple[Pipeline, RunOptions], tmp_path: Path
):
    pipeline, options = recorded
    mine = RunOptions(golden_dir=tmp_path, output_dir=options.output_dir)
    first = record_file(pipeline, mine, reason="first")
    assert record_file(pipeline, mine, reason="again").replaces == first.digest
    theirs = write_golden(replace(first, judged={"verdict": "pass"}), tmp_path / pipeline.name)
    assert theirs.vouched
    with pytest.raises(UserInputError, match="PyTorch vouches"):
        record_file(pipeline, mine, reason="third")
    assert read_golden(tmp_path / pipeline.name).digest == theirs.digest


def test_a_failure_carries_the_mark_too(recorded: tuple[Pipeline, RunOptions], tmp_path: Path):
    outcome = checked(recorded, changed(recorded, tmp_path / "a.onnx", other_weight))
    assert outcome.state is State.MOVED
    assert NOT_VOUCHED in shown.golden_headline(outcome)
    assert NOT_VOUCHED in shown.golden_junit(outcome)
    assert all(NOT_VOUCHED in line for line in shown.golden_annotations(outcome, "a.yaml"))


def newer(path: Path) -> Path:
    place = path.with_name("newer.onnx")
    onnx.save(version_converter.convert_version(onnx.load(str(path)), 18), str(place))
    return place


@pytest.mark.parametrize("tool", ["identity", "optimised", "converted"])
def test_another_tools_graph_is_within_rounding(
    tool: str, recorded: tuple[Pipeline, RunOptions], tmp_path: Path
):
    path = changed(recorded, tmp_path / "a.onnx", *([with_identity] if tool == "identity" else []))
    path = {"optimised": optimised, "converted": newer}.get(tool, lambda held: held)(path)
    outcome = checked(recorded, path)
    assert outcome.numbers in (State.SAME, State.WITHIN_ROUNDING), outcome
    assert outcome.exit_code == 0
    if outcome.structure:
        assert any("another tool has written it anew" in note for note in outcome.notes)


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_weight_is_seen_in_its_layer(
    rewritten: bool, recorded: tuple[Pipeline, RunOptions], tmp_path: Path
):
    changes = [other_weight, *([with_identity] if rewritten else [])]
    outcome = checked(recorded, changed(recorded, tmp_path / "a.onnx", *changes))
    assert outcome.state is State.MOVED
    assert outcome.exit_code == 1
    first = outcome.cases[0].first
    assert first is not None
    assert first.tap == "conv"


def test_an_attribute_that_no_number_shows_is_seen(
    recorded: tuple[Pipeline, RunOptions], tmp_path: Path
):
    outcome = checked(recorded, changed(recorded, tmp_path / "a.onnx", other_attribute))
    assert outcome.state is State.MOVED
    assert outcome.structure_decides


def test_names_of_the_yaml_go_in_under_the_files_own(tmp_path: Path):
    path = files.waveform(tmp_path / "level.onnx")
    write_description(init_file(path), tmp_path / "level.yaml")
    pipeline = load_pipeline(tmp_path / "level.yaml")
    assert pipeline.model.names
    options = RunOptions(golden_dir=tmp_path / "golden", output_dir=tmp_path / "out")
    record_file(pipeline, options, reason="first")
    assert check(pipeline, options).state is State.SAME


def test_a_file_that_draws_is_not_recorded(recorded: tuple[Pipeline, RunOptions], tmp_path: Path):
    pipeline = recorded[0].with_file(files.stream(tmp_path / "stream.onnx", "draws"))
    options = RunOptions(golden_dir=tmp_path / "golden")
    with pytest.raises(GoldenError, match="does not give the same twice"):
        record_file(pipeline, options, reason="never")
    assert not (tmp_path / "golden" / pipeline.name / "manifest.json").exists()


def test_a_golden_that_is_missing_says_how_it_is_made(
    recorded: tuple[Pipeline, RunOptions], tmp_path: Path
):
    outcome = check(recorded[0], RunOptions(golden_dir=tmp_path, output_dir=tmp_path / "out"))
    assert outcome.state is State.MISSING
    assert outcome.exit_code == 1
    assert "golden record" in outcome.advice


def test_goldens_of_two_kinds_differ_in_who_vouches(recorded: tuple[Pipeline, RunOptions]):
    pipeline, options = recorded
    golden = read_golden(options.golden_dir / pipeline.name)
    tiny = Path(__file__).parents[2] / "golden" / "silero_vad_tiny"
    found = diff_goldens(golden, read_golden(tiny)).facts
    facts = {name: (old, new) for name, old, new in found}
    assert facts["vouched for by"] == ("nobody: a file gave it", "PyTorch")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = files.stream(tmp_path / "stream.onnx")
    words = ["golden", "record", "--onnx", str(path), "--golden-dir", str(tmp_path / "golden")]
    assert main([*words, "--reason", "first"]) == 0
    assert NOT_VOUCHED in capsys.readouterr().out
    assert np.isfinite(read_golden(tmp_path / "golden" / "stream").cases[0].outputs[0].limit_max)
