"""Log mel of SpeechBrain's encoder: equal to upstream's own, and to itself in a padded batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from exporter.core.errors import ConfigError
from exporter.models.upstream import quiet_upstream
from exporter.speech.mel import MelSpectrogram, slaney_mel_matrix
from exporter.speech.reflect import reflected_index


def noise(rows: int, samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed))


def upstream_mel(sound: torch.Tensor, **changed: Any) -> torch.Tensor:
    """``MelSpectrogramEncoder.mel_spectrogram`` with the published hyperparameters."""
    with quiet_upstream():
        from speechbrain.inference.encoders import MelSpectrogramEncoder

    hparams = {
        "sample_rate": 16000, "hop_length": 256, "win_length": 1024, "n_fft": 1024,
        "n_mel_channels": 80, "mel_fmin": 0.0, "mel_fmax": 8000.0, "power": 1,
        "mel_normalized": False, "norm": "slaney", "mel_scale": "slaney",
        "dynamic_range_compression": True, **changed,
    }  # fmt: skip
    modules = {"normalizer": torch.nn.Identity(), "embedding_model": torch.nn.Identity()}
    encoder = MelSpectrogramEncoder(modules=modules, hparams={**hparams, **modules})
    return encoder.mel_spectrogram(sound)


@pytest.mark.parametrize("samples", [513, 1024, 5000, 48_001])
def test_it_is_speechbrains(samples: int):
    sound = noise(2, samples)
    mel, frames = MelSpectrogram()(sound, torch.tensor([samples, samples]))
    wanted = upstream_mel(sound)
    assert mel.shape == wanted.shape and frames.tolist() == [wanted.shape[2]] * 2
    # In the log domain; most of it is torchaudio's own FFT against float64.
    torch.testing.assert_close(mel, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "changed",
    [
        {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mel_channels": 40},
        {"mel_fmin": 80.0, "mel_fmax": 7600.0},
    ],
)
def test_other_sizes_are_speechbrains_too(changed: dict[str, Any]):
    names = {"n_mel_channels": "n_mels", "mel_fmin": "f_min_hz", "mel_fmax": "f_max_hz"}
    ours = MelSpectrogram(**{names.get(key, key): value for key, value in changed.items()})
    sound = noise(1, 9000)
    mel, _ = ours(sound, torch.tensor([9000]))
    torch.testing.assert_close(mel, upstream_mel(sound, **changed), rtol=0, atol=2e-5)


def test_a_tone_is_where_it_belongs():
    time = torch.arange(16_000) / 16_000
    mel, _ = MelSpectrogram()(torch.sin(2 * np.pi * 1000 * time)[None], torch.tensor([16_000]))
    centres = np.argmax(slaney_mel_matrix(80, 1024, 16_000, 0, 8000), axis=1) * 16_000 / 1024
    assert abs(centres[int(mel[0, :, 30].argmax())] - 1000) < 40


def test_silence_is_the_floor():
    mel, _ = MelSpectrogram()(torch.zeros(1, 4000), torch.tensor([4000]))
    assert torch.equal(mel, torch.full_like(mel, float(np.log(np.float32(1e-5)))))


@pytest.mark.parametrize("fill", [0.0, 1e3, float("nan")])
def test_padding_is_never_read(fill: float):
    alone = noise(1, 7777)
    padded = torch.cat([alone, torch.full((1, 5000), fill)], dim=1)
    module = MelSpectrogram()
    single, frames = module(alone, torch.tensor([7777]))
    whole, same = module(padded, torch.tensor([7777]))
    assert frames.tolist() == same.tolist() == [31] and torch.isfinite(whole).all()
    torch.testing.assert_close(whole[:, :, :31], single, rtol=0, atol=2e-5)


def test_filters_agree_with_librosa():
    import librosa

    wanted = librosa.filters.mel(sr=16_000, n_fft=1024, n_mels=80, fmin=0, fmax=8000, norm="slaney")
    assert np.abs(slaney_mel_matrix(80, 1024, 16_000, 0, 8000) - wanted).max() < 1e-8


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"win_length": 2048}, "a window of 2048 samples does not fit"),
        ({"f_max_hz": 9000.0}, r"the band 0.0..9000.0 Hz does not lie within"),
        ({"n_mels": 400}, "400 mel bins are too many"),
    ],
)
def test_impossible_sizes(wrong: dict[str, Any], match: str):
    with pytest.raises(ConfigError, match=match):
        MelSpectrogram(**wrong)


@pytest.mark.parametrize("length", [1, 2, 3, 9, 20])
@pytest.mark.parametrize("margin", [0, 1, 4, 30])
def test_reflection_is_numpys_at_each_rows_own_end(length: int, margin: int):
    size = 20
    index = reflected_index(torch.tensor([length, size]), size, margin)
    assert index.shape == (2, size + 2 * margin)
    for row, own in zip(index.tolist(), (length, size), strict=True):
        wanted = np.pad(np.arange(own), margin, mode="reflect").tolist()
        assert row[: own + 2 * margin] == wanted
        assert all(0 <= place < own for place in row)
