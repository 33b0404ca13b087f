"""silero-vad's own ONNX files, as the package ships them: no lookahead, states, 8 and 16 kHz."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporter.config import Pipeline
from exporter.config.load import load_pipeline
from exporter.flows.check import check
from exporter.flows.compare import CompareOptions, compare
from exporter.flows.init_file import init_file, write_description
from exporter.flows.inspect import inspect
from exporter.report.overall_verdict import contracts_exit_code
from exporter.report.schema import ContractRecord

DATA = Path(importlib.util.find_spec("silero_vad").origin).parent / "data"  # type: ignore[union-attr]
FILES = sorted(path.stem for path in DATA.glob("*.onnx"))
WINDOW = {16_000: 576, 8_000: 288}
TWO_RATES = ("silero_vad", "silero_vad_op18_ifless")


def described(path: Path, folder: Path, rate: int = 16_000) -> Pipeline:
    """As ``init`` has it, with windows of the size that silero is called with."""
    place = folder / f"{path.stem}_{rate}.yaml"
    first = init_file(path)
    names = {axis.name for axis in (*first.axes, *first.fixed)}
    window = names & {"samples", "sequence"}
    if window:
        first = init_file(path, sizes={"batch": 2, next(iter(window)): WINDOW[rate]})
    text = write_description(first, place)
    place.write_text(text.replace("value: 16000", f"value: {rate}"))
    return load_pipeline(place)


def verdicts(pipeline: Pipeline, *names: str) -> dict[str, ContractRecord]:
    return {record.name: record for record in check(pipeline, names or None)}


def test_the_package_ships_the_files_that_are_looked_at():
    assert {
        "silero_vad",
        "silero_vad_16k_op15",
        "silero_vad_half",
        "silero_vad_16k_sequence",
    } <= set(FILES)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_all_contracts_that_init_proposes_pass(name: str, tmp_path: Path):
    pipeline = described(DATA / f"{name}.onnx", tmp_path)
    records = check(pipeline)
    said = {record.name: (record.verdict, record.observed, record.reason) for record in records}
    assert contracts_exit_code(records) == 0, said
    assert {verdict for verdict, _, _ in said.values()} == {"pass"}, said
    assert {"causality", "reset", "determinism", "silence", "dtype"} <= set(said)
    assert str(said["causality"][1]).startswith("lookahead 0 ")


@pytest.mark.slow
@pytest.mark.parametrize("rate", sorted(WINDOW))
@pytest.mark.parametrize("name", TWO_RATES)
def test_both_rates_of_one_file_keep_their_state_and_see_nothing_ahead(
    name: str, rate: int, tmp_path: Path
):
    pipeline = described(DATA / f"{name}.onnx", tmp_path, rate)
    assert pipeline.inputs["input"].shape == ("batch", WINDOW[rate])
    found = verdicts(pipeline, "causality", "reset", "padding")
    assert {record.verdict for record in found.values()} == {"pass"}, found
    traps = {trap.key for trap in inspect(DATA / f"{name}.onnx", kernels=False).traps}
    assert "branch_on_rate" in traps


def test_a_state_that_is_not_read_is_seen(tmp_path: Path):
    """The twin of the tests above: the recurrent layer is given zeros instead of its state."""
    model = onnx.load(str(DATA / "silero_vad_16k_sequence.onnx"))
    lstm = next(node for node in model.graph.node if node.op_type == "LSTM")
    place = list(lstm.input).index("h")
    lstm.input[place] = "forgotten"
    zero = numpy_helper.from_array(np.array(0.0, np.float32), "nothing")
    model.graph.initializer.append(zero)
    model.graph.node.insert(0, helper.make_node("Mul", ["h", "nothing"], ["forgotten"]))
    path = tmp_path / "silero_vad_16k_sequence.onnx"
    onnx.save(model, str(path))
    found = verdicts(described(path, tmp_path), "reset")["reset"]
    assert found.verdict == "fail"
    assert "another state in 'h' changes no output" in found.reason


def test_the_steps_file_streams_as_it_does_at_once(tmp_path: Path):
    pipeline = described(DATA / "silero_vad_16k_sequence.onnx", tmp_path)
    assert pipeline.states == {"hn": "h", "cn": "c"}
    found = verdicts(pipeline, "causality")
    assert found["causality"].observed == "lookahead 0 steps, past compared bit by bit"
    assert found["causality.streaming"].verdict == "pass"


def test_a_recording_goes_in_window_by_window(tmp_path: Path):
    pipeline = described(DATA / "silero_vad_half.onnx", tmp_path)
    place = Path(pipeline.file)
    text = place.read_text().replace("[batch, 576]", "[batch, samples]")
    text = text.replace("axes:\n", "axes:\n  samples: {minimum: 576, maximum: 576}\n")
    audio = Path(__file__).parents[2] / "golden" / "audio" / "english.wav"
    start = text.index("cases:")
    end = text.index("contracts:")
    case = f"{{name: drawn, audio: {{file: {audio}, input: input}}, steps: {{size: 576}}}}"
    place.write_text(f"{text[:start]}cases: [{case}]\n{text[end:]}")
    found = verdicts(load_pipeline(place), "causality", "reset")
    assert {record.verdict for record in found.values()} == {"pass"}, found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["silero_vad_op18_ifless", "silero_vad_half"])
def test_files_of_one_network_are_one_function_and_another_network_is_not(name: str):
    options = CompareOptions(sizes={"batch": 1, "sequence": 576}, precision="float16")
    report = compare(DATA / "silero_vad_16k_op15.onnx", DATA / f"{name}.onnx", options)
    same = name != "silero_vad_half"
    assert report.exit_code == (0 if same else 1), report.headline
    assert report.headline.startswith("same function") == same


@pytest.mark.slow
@pytest.mark.parametrize("rate", sorted(WINDOW))
def test_at_8_khz_two_files_of_the_package_are_two_functions(rate: int, tmp_path: Path):
    random = np.random.default_rng(0)
    case = tmp_path / "case.npz"
    x = (0.1 * random.standard_normal((1, WINDOW[rate]))).astype(np.float32)
    state = (0.1 * random.standard_normal((2, 1, 128))).astype(np.float32)
    np.savez(case, input=x, state=state, sr=np.array(rate))
    files = [DATA / f"{name}.onnx" for name in TWO_RATES]
    report = compare(*files, CompareOptions(case=case))
    assert report.exit_code == (0 if rate == 16_000 else 1), report.headline
