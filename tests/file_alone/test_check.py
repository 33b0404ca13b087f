"""``init`` describes a file, and ``check`` holds it against contracts; nobody has its PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.cli import main
from exporter.config import Pipeline
from exporter.config.load import load_pipeline
from exporter.contracts import runner
from exporter.core.errors import ConfigError, OnnxStoppedError, UserInputError
from exporter.flows.check import check
from exporter.flows.init_file import init_file, write_description
from exporter.flows.init_states import propose_states
from exporter.joining.interface_inputs import Input
from exporter.report.overall_verdict import contracts_exit_code
from exporter.report.schema import ContractRecord
from tests.support import small_files as files

STATE = {files.NEW: files.CACHE}


def described(path: Path, **more: object) -> Pipeline:
    """The YAML of ``init``, with what a person would add to it."""
    place = path.with_suffix(".yaml")
    text = write_description(init_file(path), place)
    for key, value in more.items():
        text += f"{key}: {json.dumps(value)}\n" if not text.count(f"\n{key}:") else ""
    place.write_text(text)
    return load_pipeline(place)


def by_name(records: list[ContractRecord]) -> dict[str, ContractRecord]:
    return {record.name: record for record in records}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files.stream(tmp_path_factory.mktemp("healthy") / "stream.onnx")


@pytest.fixture(scope="module")
def pipeline(healthy: Path) -> Pipeline:
    return described(healthy)


def test_init_finds_names_states_and_axes(pipeline: Pipeline):
    assert list(pipeline.inputs) == [files.X, files.CACHE]
    assert pipeline.states == STATE
    assert pipeline.inputs[files.X].shape[0] == pipeline.inputs[files.CACHE].shape[0] == "batch"
    assert pipeline.inputs[files.X].shape[2] == 3
    assert pipeline.contracts["causality"] == {"streaming": {"state": {files.CACHE: files.NEW}}}
    assert {"determinism", "shapes", "padding", "silence", "dtype", "reset"} < set(
        pipeline.contracts
    )


def test_every_contract_has_a_reason(healthy: Path):
    text = healthy.with_suffix(".yaml").read_text()
    lines = text[text.index("contracts:") :].splitlines()[1:]
    assert lines
    assert all("  # " in line for line in lines)


def test_a_healthy_file_passes_what_init_wrote(pipeline: Pipeline):
    records = check(pipeline)
    said = {record.name: (record.verdict, record.reason) for record in records}
    assert contracts_exit_code(records) == 0, said
    assert {verdict for verdict, _ in said.values()} == {"pass"}
    assert {record.side for record in records} == {"onnx"}
    assert "causality.streaming" in said


@pytest.mark.parametrize("fault", files.FAULTS)
def test_a_fault_is_found_by_its_contract(fault: str, pipeline: Pipeline, tmp_path: Path):
    path = files.stream(tmp_path / "stream.onnx", fault)
    records = check(pipeline.with_file(path))
    assert contracts_exit_code(records) == 1
    failed = by_name(records)[files.FAULTS[fault]]
    assert failed.verdict == "fail", failed


@pytest.mark.parametrize(
    ("fault", "place"),
    [("sees_ahead", "encoder.norm"), ("mixes_rows", "encoder.norm"), ("draws", "encoder.dither")],
)
def test_the_node_is_named(fault: str, place: str, pipeline: Pipeline, tmp_path: Path):
    path = files.stream(tmp_path / "stream.onnx", fault)
    found = by_name(check(pipeline.with_file(path)))[files.FAULTS[fault]]
    assert place in str(found.where), found


@pytest.mark.parametrize("inside", ["initializer", "constant"])
def test_weights_of_a_branch_may_lie_beside_the_file(
    inside: str, pipeline: Pipeline, tmp_path: Path
):
    """A walk of all values computes the branch, which the whole file drops: nobody reads it."""
    path = files.stream(tmp_path / "stream.onnx", "sees_ahead")
    (tmp_path / "beside.bin").write_bytes(np.ones(4, np.float32).tobytes())
    model = onnx.load(path)
    held = numpy_helper.from_array(np.ones(4, np.float32), "held")
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    held.external_data.add(key="location", value="beside.bin")
    info = helper.make_tensor_value_info("extra", TensorProto.FLOAT, [4])
    if inside == "constant":
        node = helper.make_node("Constant", [], ["extra"], name="extra", value=held)
        branch = helper.make_graph([node], "branch", [], [info])
    else:
        node = helper.make_node("Identity", ["held"], ["extra"], name="extra")
        branch = helper.make_graph([node], "branch", [], [info], [held])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    dead = helper.make_node("If", ["always"], ["dead"], then_branch=branch, else_branch=branch)
    model.graph.node.insert(0, dead)
    onnx.save(model, path)
    found = by_name(check(pipeline.with_file(path)))[files.FAULTS["sees_ahead"]]
    assert found.verdict == "fail"
    assert "encoder.norm" in str(found.where), found


def test_a_piece_that_does_not_run_leaves_the_verdict_without_a_place(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stops(*_: object, **__: object) -> None:
        raise OnnxStoppedError("as onnxruntime says it")

    monkeypatch.setattr("exporter.execution.onnx_windows.WindowRun", stops)
    path = files.stream(tmp_path / "stream.onnx", "sees_ahead")
    found = by_name(check(pipeline.with_file(path)))[files.FAULTS["sees_ahead"]]
    assert (found.verdict, found.where) == ("fail", None), found


def test_init_says_that_a_file_sees_ahead(tmp_path: Path):
    pipeline = described(files.stream(tmp_path / "stream.onnx", "sees_ahead"))
    assert "causality" not in pipeline.contracts
    assert "it sees ahead" in (tmp_path / "stream.yaml").read_text()


def test_lengths_are_called_after_their_input(tmp_path: Path):
    pipeline = described(files.waveform(tmp_path / "level.onnx"))
    assert pipeline.model.names == {"audio_lengths": "audio_len"}
    padding = by_name(check(pipeline, ["padding"]))["padding"]
    assert padding.verdict == "pass"
    assert padding.details["padded_to"] > max(padding.details["utterance_lengths"])


def test_names_stand_for_each_other_in_contracts(tmp_path: Path):
    path = files.stream(tmp_path / "stream.onnx")
    text = write_description(init_file(path), path.with_suffix(".yaml"))
    ours = {files.X: "x", files.CACHE: "cache", files.Y: "y", files.NEW: "next"}
    for theirs, name in ours.items():
        text = text.replace(json.dumps(theirs), name)
    names = json.dumps({name: theirs for theirs, name in ours.items()})
    text = text.replace("onnx: stream.onnx", f"onnx: stream.onnx, names: {names}")
    path.with_suffix(".yaml").write_text(text)
    records = check(path.with_suffix(".yaml"))
    assert {record.verdict for record in records} == {"pass"}, records


def test_what_cannot_be_asked_of_a_file_is_never_green(pipeline: Pipeline):
    records = by_name(check(pipeline, ["mutation", "dtype"]))
    assert records["mutation"].verdict == "not applicable"
    lower = pipeline.model_copy(update={"contracts": {"dtype": {"precisions": ["float16"]}}})
    found = check(lower, ["dtype"])
    assert found[0].verdict == "not run"
    assert contracts_exit_code(found) == 1


def test_every_contract_says_something_of_a_file(pipeline: Pipeline):
    names = {record.name for record in check(pipeline, list(runner.CONTRACTS))}
    assert set(runner.CONTRACTS) <= names


@pytest.mark.parametrize("command", ["run", "verify"])
def test_a_file_alone_is_refused_where_pytorch_is_needed(
    command: str, healthy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    more = ["--onnx", str(healthy)] if command == "verify" else []
    assert main([command, pipeline.file, *more]) == 2
    assert "there is no PyTorch" in capsys.readouterr().err


def test_a_name_that_the_file_has_not_is_refused(healthy: Path, tmp_path: Path):
    text = (
        healthy.with_suffix(".yaml")
        .read_text()
        .replace("onnx: stream", f"onnx: {healthy.parent}/stream")
    )
    place = tmp_path / "other.yaml"
    place.write_text(text.replace('"serving/y:0"', '"serving/z:0"'))
    with pytest.raises(ConfigError, match=r"no output 'serving/z:0'") as raised:
        check(place)
    assert "did you mean 'serving/y:0'" in (raised.value.remedy or "")


def test_sizes_that_do_not_run_are_refused_with_the_axis(pipeline: Pipeline, tmp_path: Path):
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    given = {"x": (TensorProto.FLOAT, [None, None, 3])}
    path = files.save(tmp_path / "a.onnx", nodes, given, ["y"], {"shape": np.array([2, 99, 3])})
    with pytest.raises(UserInputError, match="no sizes were found") as raised:
        init_file(path)
    assert "--size" in (raised.value.remedy or "")


STATES = {
    "silero": ("input:?,576 state:2,?,128", "output:?,1 stateN:", {"state": "stateN"}),
    "lstm": ("x:9,3 h:1,8 c:1,8", "y:9 hn:1,8 cn:1,8", {"h": "hn", "c": "cn"}),
    "zipformer": (
        "x:1,9 cached_key_0:4,8 cached_key_1:4,8",
        "enc:1,9 new_cached_key_1:4,8 new_cached_key_0:4,8",
        {"cached_key_0": "new_cached_key_0", "cached_key_1": "new_cached_key_1"},
    ),
    "grows": ("ids:1 past.0.key:1,?,4", "y:9 present.0.key:1,?,4", {"past.0.key": "present.0.key"}),
    "denoiser": ("noisy:1,160", "clean:1,160", {}),
    "in and out": ("input:1,160", "output:1,160", {}),
    "other sizes": ("x:1 state:2,8", "y:1 stateN:3,8", {}),
    "paraformer": (
        "speech:1,9 in_cache0:1,4 in_cache1:1,4",
        "y:1,9 out_cache0:1,4 out_cache1:1,4",
        {"in_cache0": "out_cache0", "in_cache1": "out_cache1"},
    ),
}


def ports(text: str) -> dict[str, tuple[int | str, ...]]:
    found = {}
    for word in text.split():
        name, _, sizes = word.partition(":")
        found[name] = tuple(int(s) if s.isdigit() else s for s in sizes.split(",") if s)
    return found


@pytest.mark.parametrize("kind", STATES)
def test_states_are_proposed_by_name(kind: str):
    given, made, wanted = STATES[kind]
    inputs = [Input(name, np.dtype(np.float32), shape) for name, shape in ports(given).items()]
    outputs = {name: ("float32", shape) for name, shape in ports(made).items()}
    found = {state.input: state.output for state in propose_states(inputs, outputs)}
    assert found == wanted
    assert all(state.why for state in propose_states(inputs, outputs))


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                      monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    path = files.stream(tmp_path / "stream.onnx", "draws")
    assert main(["check", "--onnx", str(path), "--contract", "determinism"]) == 1
    shown = capsys.readouterr().out
    assert "determinism (onnx): fail" in shown
    assert "not checked: " in shown
    assert main(["init", str(path)]) == 0
    assert main(["init", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["check", "--onnx", str(path), "--inputs", "stream.yaml", "-q"]) == 1
    assert main(["check"]) == 2
    assert main(["check", "stream.yaml", "--onnx", str(path)]) == 2


@pytest.mark.parametrize("command", [["init"], ["check", "--onnx"]])
def test_a_file_that_kills_onnxruntime_is_a_sentence(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    """The smallest integer divided by -1: the processor ends the process."""
    monkeypatch.chdir(tmp_path)
    path = files.dies(tmp_path / "a.onnx")
    assert main([*command, str(path)]) == 2
    assert "died of SIGFPE" in capsys.readouterr().err


def test_memory_without_end_is_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPORT_VERIFY_TRIAL_GIB", "0.06")
    path = files.stream(tmp_path / "stream.onnx")
    assert main(["init", str(path)]) == 2
    assert "0.1 GiB of memory that EXPORT_VERIFY_TRIAL_GIB allows" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["init"], ["check", "--onnx"]])
def test_a_loop_without_end_is_stopped(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPORT_VERIFY_TRIAL_SECONDS", "2")
    assert main([*command, str(files.endless(tmp_path / "endless.onnx"))]) == 2
    said = capsys.readouterr().err
    assert "did not end within 2 s" in said
    assert "EXPORT_VERIFY_TRIAL_SECONDS" in said


def test_digests_of_other_pipelines_do_not_move():
    """What a golden carries: new keys count only where they are used."""
    tiny = load_pipeline(Path(__file__).parents[2] / "pipelines" / "silero_vad_tiny.yaml")
    dumped = tiny.model_dump(mode="json")["model"]
    assert "onnx" not in dumped
    assert "names" not in dumped


def test_a_file_counts_by_its_content(pipeline: Pipeline, healthy: Path, tmp_path: Path):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(healthy.read_bytes())
    assert pipeline.with_file(copy).digest == pipeline.digest
    other = onnx.load(str(healthy))
    other.producer_name = "another"
    onnx.save(other, str(copy))
    assert pipeline.with_file(copy).digest != pipeline.digest


def test_nan_in_every_result_keeps_no_contract(tmp_path):
    """NaN is NaN bit by bit: causality and determinism were kept by a file that gives no number."""
    node = helper.make_node
    nodes = [node("Abs", ["x"], ["a"]), node("Neg", ["a"], ["b"]), node("Sqrt", ["b"], ["y"])]
    inputs = {"x": (TensorProto.FLOAT, ["batch", "samples"])}
    path = files.save(tmp_path / "nan.onnx", nodes, inputs, ["y"])
    asked = ["causality", "determinism", "reset", "dtype"]
    records = by_name(check(described(path), asked))
    assert records["causality"].verdict == records["determinism"].verdict == "not run"
    assert "NaN" in records["determinism"].reason
    assert records["dtype"].verdict == "pass"
    assert records["reset"].verdict == "not applicable"  # nothing is said to be a state
    assert contracts_exit_code([records["reset"]]) == 1
    healthy = files.save(tmp_path / "tanh.onnx", [node("Tanh", ["x"], ["y"])], inputs, ["y"])
    records = by_name(check(described(healthy), asked[:2]))
    assert {record.verdict for record in records.values()} == {"pass"}
