"""Models whose trained weights come inside their packages, on real speech."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from exporter.config import load_pipeline
from exporter.flows.run import run
from exporter.graph.wrap import wrap

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "pipelines" / "zoo"
ENGLISH = ROOT / "golden" / "audio" / "english.wav"
CREPE, SPEAKER, STFT = "pt_crepe_tiny", "pt_resemblyzer", "pt_resemblyzer_stft"

pytestmark = pytest.mark.slow  # their packages compile much when they are imported


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, rate = soundfile.read(ENGLISH, dtype="float32")
    assert rate == 16000
    return samples


def model(name: str) -> torch.nn.Module:
    return wrap(load_pipeline(ZOO / f"{name}.yaml", trust=True)).module


def test_crepes_windows_and_weights_are_its_packages(speech):
    ours = model(CREPE)
    import torchcrepe

    (frames,) = torchcrepe.preprocess(torch.from_numpy(speech)[None], 16000, hop_length=1280)
    torchcrepe.load.model("cpu", "tiny")
    with torch.no_grad():
        theirs = torchcrepe.infer.model(frames)
        salience, best = ours(torch.from_numpy(speech))
    torch.testing.assert_close(salience, theirs, rtol=0, atol=1e-5)
    assert best.tolist() == theirs.argmax(1).tolist()
    # Random weights would know no pitch: speech has some frames of which it is sure.
    assert salience.amax(1).gt(0.5).any()


@pytest.mark.parametrize("name", [SPEAKER, STFT])
def test_resemblyzers_spectrogram_and_weights_are_its_packages(speech, name):
    ours = model(name)
    audio, encoder = (sys.modules[f"resemblyzer.{part}"] for part in ("audio", "voice_encoder"))
    held = torch.load(
        Path(str(encoder.__file__)).parent / "pretrained.pt", map_location="cpu", weights_only=False
    )
    state = ours.state_dict()
    kept = {key: value for key, value in held["model_state"].items() if f"model.net.{key}" in state}
    assert len(kept) == 14
    for key, value in kept.items():
        assert torch.equal(state[f"model.net.{key}"], value)
    mels = torch.from_numpy(audio.wav_to_mel_spectrogram(speech))
    with torch.no_grad():
        theirs = encoder.VoiceEncoder("cpu", verbose=False)(mels[None])[0]
        (found,) = ours(torch.from_numpy(speech))
    torch.testing.assert_close(found, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [CREPE, SPEAKER])
def test_it_passes_on_speech(tmp_path, name):
    report = run(ZOO / f"{name}.yaml", output_dir=tmp_path, trust=True, cache=False, threads=1)
    assert report.verdict == "pass", report.headline


def test_the_stft_of_onnxruntime_is_found_and_the_graph_is_not_blamed(tmp_path):
    report = run(ZOO / f"{STFT}.yaml", output_dir=tmp_path, trust=True, cache=False, threads=1)
    assert report.verdict == "fail"
    assert "STFT loses digits" in report.headline and "the graph is right" in report.headline
    assert not [each for each in report.culprits if each.stage == "export"]
