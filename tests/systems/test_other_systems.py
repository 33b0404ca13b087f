"""RNN-T, VITS, CTC and a flow: right as exported, their planted faults found in their graphs."""

from __future__ import annotations

import functools
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

from exporter.config.load_system import load_system
from exporter.core.errors import UserInputError
from exporter.flows.manifest_workers import Job, rows_elsewhere
from exporter.flows.run_system import run_system
from exporter.systems.manifest_rows import ROWS
from exporter.systems.run_manifest import run_manifest
from tests.support.planted_systems import (
    OPTIONS,
    PLANTED,
    ROOT,
    bench,
    failing,
    faulty,
    judged,
    largest_zeroed,
    yaml_of,
)

pytestmark = pytest.mark.slow


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


OTHERS = [held for held in PLANTED if held.system != "whisper_tiny"]


@pytest.mark.parametrize("held", OTHERS, ids=lambda held: f"{held.system}: {held.words}")
def test_a_planted_fault_is_found_in_its_graph(made, tmp_path, held):
    folder = made(held.system)
    files = {held.graph: faulty(folder, held, tmp_path)}
    assert failing(judged(bench(held.system, folder, files))) == {held.graph}


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


def rows_in(folder: Path) -> dict[int, tuple[str, list[int]]]:
    lines = (folder / ROWS).read_text().splitlines()[1:]
    return {row["number"]: (row["verdict"], row["tokens"]) for row in map(json.loads, lines)}


def test_two_processes_find_what_one_finds_and_a_kill_leaves_what_was_known(
    made, manifest, tmp_path
):
    folder = made("ctc_tiny")
    on = bench("ctc_tiny", folder)
    job = Job(system=on.system, options=OPTIONS, folder=folder, files={}, manifest=manifest)
    elsewhere = functools.partial(rows_elsewhere, job, 2)

    def killed(name: str, done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_manifest(on, manifest, tmp_path, killed, elsewhere)
    assert len(rows_in(tmp_path)) == 20
    counts: list[int] = []
    found = run_manifest(on, manifest, tmp_path, lambda _, done, __: counts.append(done), elsewhere)
    assert counts == list(range(21, 61))
    assert (found.done, found.taken_up, found.verdict.verdict) == (60, 20, "pass")
    (tmp_path / "alone").mkdir()
    alone = run_manifest(on, manifest, tmp_path / "alone", nothing)
    assert rows_in(tmp_path) == rows_in(tmp_path / "alone")
    assert found.buckets == alone.buckets


def test_a_process_that_cannot_go_on_says_why(made, manifest, tmp_path):
    on = bench("ctc_tiny", made("ctc_tiny"))
    job = Job(system=on.system, options=OPTIONS, folder=tmp_path, files={}, manifest=manifest)
    with pytest.raises(UserInputError, match="--jobs"):
        list(rows_elsewhere(job, 2, {}))


def test_rows_of_another_module_are_not_taken_for_its_own(made, manifest, tmp_path):
    on = bench("ctc_tiny", made("ctc_tiny"))
    few = tmp_path / "few.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()[:2]]
    told = [{**held, "audio": str(manifest.parent / held["audio"])} for held in lines]
    few.write_text("\n".join(map(json.dumps, told)))
    assert run_manifest(on, few, tmp_path, nothing).taken_up == 0
    assert run_manifest(on, few, tmp_path, nothing).taken_up == 2
    # The same file is judged, and PyTorch's side is another: its code, its weights, a library.
    graphs = {name: replace(held, made_of="changed") for name, held in on.graphs.items()}
    assert run_manifest(replace(on, graphs=graphs), few, tmp_path, nothing).taken_up == 0


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
