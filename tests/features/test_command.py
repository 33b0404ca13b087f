"""``export-verify features``: the whole way, on a user's own small model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from exporter.cases.audio import read_waveform
from exporter.cli import main
from exporter.features.front_end import Material
from exporter.features.resamplers import resampled
from tests.support.speech_toy import FRONT_END, write_headless, write_toy

GOLDEN = Path(__file__).parents[2] / "golden" / "audio" / "english.wav"


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    return read_waveform(GOLDEN, 16000)[8000:40000]


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict]:
    """Exit code and JSON of the command; {} where there is none."""
    code = main(["features", *map(str, words), "--trust", "--format", "json"])
    text = capsys.readouterr().out
    return code, json.loads(text) if text else {}


def other(folder: Path, waveform: np.ndarray, **changed) -> Path:
    path = folder / "theirs.npy"
    made = Material({"none": waveform}).features(replace(FRONT_END, **changed))
    np.save(path, made.astype(np.float32))
    return path


def test_the_same_features_pass(tmp_path, waveform, capsys):
    toy = write_toy(tmp_path, waveform)
    code, report = run(capsys, toy, "--from", other(tmp_path, waveform))
    assert (code, report["verdict"]) == (0, "pass")
    assert report["place"] == "model.front"
    assert not any(row["changed"] for row in report["effects"])


def test_another_window_is_named_with_what_it_does_to_tokens(tmp_path, waveform, capsys):
    toy = write_toy(tmp_path, waveform)
    code, report = run(capsys, toy, "--from", other(tmp_path, waveform, window="rectangular"))
    assert (code, report["verdict"], report["explained"]) == (1, "fail", True)
    (row,) = report["differences"]
    assert (row["parameter"], row["theirs"]) == ("window", "rectangular")
    assert row["after"] < 1e-5 < row["before"]
    tokens = next(row for row in report["effects"] if row["output"] == "tokens")
    assert tokens["changed"]
    assert report["first_frame"] == 0


def test_a_frame_too_few_is_named(tmp_path, waveform, capsys):
    toy = write_toy(tmp_path, waveform)
    path = other(tmp_path, waveform)
    np.save(path, np.load(path)[:-1])
    code, report = run(capsys, toy, "--from", path)
    assert code == 1
    assert [row["parameter"] for row in report["differences"]] == ["last frame"]


def test_features_turned_round_are_turned_back_and_said(tmp_path, waveform, capsys):
    toy = write_toy(tmp_path, waveform)
    path = other(tmp_path, waveform)
    np.save(path, np.load(path).T)
    code, report = run(capsys, toy, "--from", path)
    assert code == 0
    assert any("first axis" in note for note in report["notes"])


@pytest.mark.slow
def test_what_no_front_end_gives_fails_and_is_not_explained(tmp_path, waveform, capsys):
    toy = write_toy(tmp_path, waveform)
    path = other(tmp_path, waveform)
    draw = np.random.Generator(np.random.PCG64(0))
    held = np.load(path)
    held[40:60] += draw.standard_normal((20, 40)).astype(np.float32)
    np.save(path, held)
    code, report = run(capsys, toy, "--from", path)
    assert (code, report["explained"]) == (1, False)
    assert report["first_frame"] == 40


def test_a_model_that_takes_features_has_them_in_its_case(tmp_path, waveform, capsys):
    ours = Material({"none": waveform}).features(FRONT_END)
    toy = write_headless(tmp_path, ours)
    soundfile.write(tmp_path / "speech.wav", waveform, 16000, subtype="FLOAT")
    path = other(tmp_path, waveform, window="hamming_periodic")
    code, report = run(capsys, toy, "--from", path, "--recording", tmp_path / "speech.wav")
    assert (code, report["place"]) == (1, "features")
    assert [row["parameter"] for row in report["differences"]] == ["window"]
    assert {row["output"] for row in report["effects"]} == {"logits", "tokens"}
    assert run(capsys, toy, "--from", path)[0] == 2  # nothing says what it is the features of


def test_a_resampler_outside_of_the_graph_is_declared_and_another_one_named(tmp_path, capsys):
    draw = np.random.Generator(np.random.PCG64(0))
    time = np.arange(96000) / 48000
    sound = 0.3 * np.sin(2 * np.pi * (100 + 2000 * time) * time)
    sound = (sound + 0.01 * draw.standard_normal(96000)).astype(np.float32)
    toy = write_toy(tmp_path, sound, rate=48000, resample=", resample: sinc")
    ways, _ = resampled(sound, 48000, 16000)
    code, report = run(capsys, toy, "--from", other(tmp_path, ways["sinc"]))
    assert code == 0, report
    code, report = run(capsys, toy, "--from", other(tmp_path, ways["linear"]))
    assert code == 1
    assert [row["parameter"] for row in report["differences"]] == ["resampler"]
    undeclared = write_toy(tmp_path, sound, rate=48000)
    assert (
        main(["features", str(undeclared), "--from", str(tmp_path / "theirs.npy"), "--trust"]) == 2
    )
    assert "resample: sinc" in capsys.readouterr().err


def test_a_program_is_run_twice_and_noise_is_never_the_same(tmp_path, waveform, capsys):
    toy = write_toy(tmp_path, waveform)
    np.save(tmp_path / "held.npy", np.load(other(tmp_path, waveform)))
    tool = tmp_path / "tool.py"
    tool.write_text(
        "import sys, numpy as np\n"
        f"held = np.load({str(tmp_path / 'held.npy')!r})\n"
        "if sys.argv[3] == 'noise':\n"
        "    held = held + 1e-6 * np.random.default_rng().standard_normal(held.shape)\n"
        "np.save(sys.argv[2], held.astype(np.float32))\n"
    )
    call = f"{sys.executable} {tool} {{wav}} {{out}}"
    assert run(capsys, toy, "--command", f"{call} plain")[0] == 0
    code, report = run(capsys, toy, "--command", f"{call} noise")
    assert code == 1
    assert any("each time it runs" in note for note in report["notes"])


def test_a_program_needs_trust(tmp_path, waveform, capsys):
    toy = tmp_path / "silero.yaml"
    toy.write_text("extends: " + str(Path("pipelines/silero_vad_tiny.yaml").resolve()))
    ran = tmp_path / "ran"
    assert main(["features", str(toy), "--command", f"touch {ran} {{wav}} {{out}}"]) == 2
    assert "--trust" in capsys.readouterr().err
    assert not ran.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--command", "true {wav}"], "has no {out}"),
        (["--command", "true {wav} {out}"], "wrote 0 files"),
        (["--command", "false {wav} {out}"], "ended with 1"),
        (["--command", "no-such-tool {wav} {out}"], "cannot be run"),
        (["--command", "'{wav} {out}"], "cannot be split"),
        (["--from", "absent.npy"], "does not exist"),
        (["--from", "nan.npy"], "NaN or infinite"),
        (["--from", "whole.npy"], "features are floats"),
        (["--from", "flat.npy"], "has shape [8000]"),
        (["--from", "good.npy", "--at", "nowhere"], "no place with features"),
        (["--from", "good.npy", "--recording", "good.npy"], "cannot be decoded as audio"),
        (["--from", "good.npy", "--cmvn", "good.npy"], "cannot be read as"),
        ([], "Give one of"),
        (["--from", "good.npy", "--with", "librosa"], "Give one of"),
    ],
)
def test_what_cannot_be_compared_exits_with_2(tmp_path, monkeypatch, waveform, capsys, words, said):
    toy = write_toy(tmp_path, waveform)
    monkeypatch.chdir(tmp_path)
    good = np.load(other(tmp_path, waveform))
    np.save("good.npy", good)
    np.save("flat.npy", good.ravel()[:8000])
    np.save("whole.npy", good.astype(np.int64))
    good[3, 4] = np.nan
    np.save("nan.npy", good)
    assert main(["features", str(toy), *words, "--trust"]) == 2
    assert said in capsys.readouterr().err


def test_text_and_markdown_say_the_same(tmp_path, waveform, capsys):
    toy = write_toy(tmp_path, waveform)
    path = other(tmp_path, waveform, high_hz=7600.0)
    for form in ("text", "markdown"):
        words = ["features", str(toy), "--from", str(path), "--trust", "--format", form]
        assert main(words) == 1
        text = " ".join(capsys.readouterr().out.split())
        assert "high frequency: ours 8000 Hz, theirs 7600 Hz" in text
        assert "tokens" in text


@pytest.mark.slow
@pytest.mark.parametrize("program", ["kaldi-native-fbank", "sherpa-onnx", "torchaudio"])
def test_programs_give_what_sensevoice_takes(capsys, program):
    if program == "torchaudio":
        pytest.importorskip("torchaudio")
    code, report = run(capsys, "pipelines/sensevoice_tiny.yaml", "--with", program)
    assert (code, report["verdict"]) == (0, "pass"), report
