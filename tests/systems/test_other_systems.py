"""RNN-T, CTC and a flow: right as they are exported, their planted faults found in their graphs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from onnx import helper, numpy_helper

from exporter.config.load_system import load_system
from exporter.config.run_options import RunOptions
from exporter.flows.run_system import bench_of, run_system
from exporter.report.progress import Progress
from exporter.systems.case_inputs import system_cases
from exporter.systems.judge_case import Bench, JudgedCase, judge_case
from exporter.systems.manifest_rows import ROWS
from exporter.systems.run_manifest import run_manifest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
OPTIONS = RunOptions(trust=True, cache=False, threads=1, all_cases=True)


def yaml_of(name: str) -> Path:
    return ROOT / "pipelines" / "systems" / f"{name}.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of systems, each run once when it is first asked for."""
    folders: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            report = run_system(yaml_of(name), OPTIONS, output_dir=folders[name])
            assert (report.verdict, report.exit_code) == ("pass", 0), report.headline
        return folders[name]

    return of


def bench(name: str, folder: Path, files: dict[str, Path] | None = None, **update) -> Bench:
    system = load_system(yaml_of(name), trust=True)
    changed = system.model_copy(update=update).with_pipelines(system.pipelines)
    return bench_of(changed, OPTIONS, folder, files or {}, Progress(quiet=True))


def judged(on: Bench, case: str | None = None) -> JudgedCase:
    names = (case or on.system.default_case,)
    return judge_case(on, system_cases(on.system, on.graphs, names)[0])


def failing(found: JudgedCase) -> set[str]:
    return {c.graph for c in found.calls if c.verdict.verdict == "fail"}


def weight(model: onnx.ModelProto, *dims: int, nth: int = 0) -> onnx.TensorProto:
    return [t for t in model.graph.initializer if sorted(t.dims) == sorted(dims)][nth]


def put(held: onnx.TensorProto, value: np.ndarray) -> None:
    held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), held.name))


def state_not_handed_on(model: onnx.ModelProto) -> None:
    """The predictor gives back the state that it was given."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["lost" if name == "next_state.0" else name for name in names]
    model.graph.node.append(helper.make_node("Identity", ["state.0"], ["next_state.0"]))


def embeddings_shifted(model: onnx.ModelProto) -> None:
    held = weight(model, 20, 16)
    put(held, np.roll(numpy_helper.to_array(held), 1, axis=0))


def joiner_bias_lost(model: onnx.ModelProto) -> None:
    held = weight(model, 20)
    put(held, numpy_helper.to_array(held) * 0)


def bands_exchanged(model: onnx.ModelProto) -> None:
    """Two neighbours among 32 bands of the front end."""
    held = weight(model, 32, 1, 400)
    value = numpy_helper.to_array(held).copy()
    value[[5, 6]] = value[[6, 5]]
    put(held, value)


def letters_shifted(model: onnx.ModelProto) -> None:
    """The bias of each letter is the one of its neighbour: a blank in another place."""
    held = weight(model, 28)
    put(held, np.roll(numpy_helper.to_array(held), 1))


def rounded_to_float16(model: onnx.ModelProto) -> None:
    held = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    put(held, numpy_helper.to_array(held).astype(np.float16).astype(np.float32))


def largest_zeroed(model: onnx.ModelProto) -> None:
    held = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    value = numpy_helper.to_array(held).copy()
    value[np.unravel_index(np.abs(value).argmax(), value.shape)] = 0
    put(held, value)


@pytest.mark.parametrize(
    ("name", "graph", "plant"),
    [
        ("rnnt_tiny", "predictor", state_not_handed_on),
        ("rnnt_tiny", "predictor", embeddings_shifted),
        ("rnnt_tiny", "joiner", joiner_bias_lost),
        ("rnnt_tiny", "encoder", rounded_to_float16),
        ("ctc_tiny", "recogniser", rounded_to_float16),
        ("ctc_tiny", "recogniser", largest_zeroed),
        ("ctc_tiny", "recogniser", bands_exchanged),
        ("ctc_tiny", "recogniser", letters_shifted),
        ("flow_tiny", "text", rounded_to_float16),
        ("flow_tiny", "velocity", rounded_to_float16),
        ("flow_tiny", "velocity", largest_zeroed),
        ("flow_tiny", "vocoder", largest_zeroed),
    ],
)
def test_a_planted_fault_is_found_in_its_graph(made, tmp_path, name, graph, plant):
    folder = made(name)
    model = onnx.load(folder / graph / "model.onnx")
    plant(model)
    onnx.save(model, tmp_path / "faulty.onnx")
    found = judged(bench(name, folder, {graph: tmp_path / "faulty.onnx"}))
    assert failing(found) == {graph}


@pytest.mark.parametrize("beams", [1, 8])
def test_a_prefix_beam_agrees_and_is_read_as_text(made, beams):
    folder = made("ctc_tiny")
    driver = load_system(yaml_of("ctc_tiny")).driver.model_copy(update={"beams": beams})
    found = judged(bench("ctc_tiny", folder, driver=driver), "noise")
    (result,) = found.results
    assert result.verdict.verdict == "pass" and result.text == result.onnx_text != ""
    assert [held.unit for held in result.errors] == ["token", "character", "word"]


def test_what_is_heard_is_measured(made):
    folder = made("flow_tiny")
    (result,) = json.loads((folder / "system.json").read_text())["results"]
    (sound,) = result["heard"]
    assert sound["si_sdr_db"] > 60 and abs(sound["level_db"]) < 0.01


def test_an_si_sdr_that_is_asked_for_and_not_reached_fails(made, tmp_path):
    folder = made("flow_tiny")
    system = load_system(yaml_of("flow_tiny"))
    waveforms = system.judge.waveforms.model_copy(update={"min_si_sdr_db": 300.0})
    judge = system.judge.model_copy(update={"waveforms": waveforms})
    (result,) = judged(bench("flow_tiny", folder, judge=judge)).results
    assert result.verdict.verdict == "fail" and "SI-SDR" in result.verdict.reason


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """60 utterances of espeak-ng, with speeds, noise and gains."""
    spec = importlib.util.spec_from_file_location("made", ROOT / "scripts" / "make_manifest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make(tmp_path_factory.mktemp("sound"), 60)


def nothing(name: str, done: int, total: int) -> None: ...


def test_a_manifest_that_is_killed_goes_on(made, manifest, tmp_path):
    on = bench("ctc_tiny", made("ctc_tiny"))

    def killed(name: str, done: int, total: int) -> None:
        if done == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_manifest(on, manifest, tmp_path, killed)
    with (tmp_path / ROWS).open("a") as stream:
        stream.write('{"number": 26, "na')
    told: list[str] = []
    found = run_manifest(on, manifest, tmp_path, lambda name, *_: told.append(name))
    assert told[0] == "u0025" and len(told) == 35
    assert (found.done, found.taken_up, found.verdict.verdict) == (60, 25, "pass")
    buckets = {bucket.name: bucket for bucket in found.buckets}
    assert sum(buckets[f"speed={s}"].utterances for s in (120, 160, 220)) == 60
    assert buckets["noise=15 dB"].tokens > 0
    assert buckets["speed=120"].word_error_rate == buckets["speed=120"].onnx_word_error_rate


def test_a_manifest_through_a_faulty_file_is_not_green(made, manifest, tmp_path):
    folder = made("ctc_tiny")
    model = onnx.load(folder / "recogniser" / "model.onnx")
    largest_zeroed(model)
    onnx.save(model, tmp_path / "faulty.onnx")
    on = bench("ctc_tiny", folder, {"recogniser": tmp_path / "faulty.onnx"})
    few = tmp_path / "few.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()[:4]]
    few.write_text(
        "\n".join(
            json.dumps({**held, "audio": str(manifest.parent / held["audio"])}) for held in lines
        )
    )
    found = run_manifest(on, few, tmp_path, nothing)
    assert found.verdict.verdict == "fail" and found.worst


def test_an_utterance_that_is_declared_silent_may_not_speak(made, tmp_path):
    on = bench("ctc_tiny", made("ctc_tiny"))
    sound = ROOT / "golden" / "audio" / "english.wav"
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio": str(sound), "expect_empty": True}))
    found = run_manifest(on, tmp_path / "m.jsonl", tmp_path, nothing)
    assert found.verdict.verdict == "fail" and "declared to be empty" in found.worst[0]


def test_recordings_that_cannot_be_used_are_not_green(made, tmp_path):
    on = bench("ctc_tiny", made("ctc_tiny"))
    soundfile.write(tmp_path / "other.wav", np.zeros(8000, np.float32), 8000)
    soundfile.write(tmp_path / "short.wav", np.zeros(300, np.float32), 16000)
    rows = [{"audio": "none.wav"}, {"audio": "other.wav"}, {"audio": "short.wav"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = run_manifest(on, tmp_path / "m.jsonl", tmp_path, nothing)
    assert found.verdict.verdict == "not run" and found.verdicts == {"not run": 3}
    sound = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    soundfile.write(tmp_path / "none.wav", 0.1 * sound, 16000)
    found = run_manifest(on, tmp_path / "m.jsonl", tmp_path, nothing)
    assert found.verdicts == {"not run": 2, "pass": 1}
