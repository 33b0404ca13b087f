"""What upstream computes, in the shapes that this package uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporter.cases.audio import read_waveform

AUDIO = Path(__file__).parents[2] / "golden" / "audio"


def golden(name: str) -> torch.Tensor:
    """One golden recording, ``[N]`` float32."""
    return torch.from_numpy(read_waveform(AUDIO / f"{name}.wav", 16000))


def official_probs(model: torch.nn.Module, waveform: torch.Tensor, rate: int) -> torch.Tensor:
    """Probabilities as silero-vad computes them: one call per frame, state inside."""
    size = 512 if rate == 16000 else 256
    model.reset_states()  # type: ignore[operator]
    padded = torch.nn.functional.pad(waveform, (0, -len(waveform) % size))
    return torch.cat([model(frame, rate).reshape(1) for frame in padded.split(size)])


def official_segments(
    probs: torch.Tensor,
    num_samples: int,
    *,
    threshold: float = 0.5,
    negative_threshold: float | None = None,
    min_speech_ms: float = 250,
    min_silence_ms: float = 100,
    speech_pad_ms: float = 30,
    sample_rate_hz: int = 16000,
) -> list[list[int]]:
    from silero_vad.utils_vad import get_speech_timestamps_from_probs

    options: dict[str, Any] = {  # annotated upstream as integers, but any number works
        "neg_threshold": negative_threshold,
        "min_speech_duration_ms": min_speech_ms,
        "min_silence_duration_ms": min_silence_ms,
        "speech_pad_ms": speech_pad_ms,
    }
    found = get_speech_timestamps_from_probs(
        probs.tolist(),
        sampling_rate=sample_rate_hz,
        threshold=threshold,
        audio_length_samples=num_samples,
        **options,
    )
    return [[segment["start"], segment["end"]] for segment in found]


def official_features(
    waveform: torch.Tensor, *, lfr_m: int = 7, lfr_n: int = 6, cmvn_file: str | None = None
) -> torch.Tensor:
    """FunASR's features of one recording, ``[T, 80 * lfr_m]``, without dither."""
    from funasr.frontends.wav_frontend import WavFrontend

    frontend = WavFrontend(
        cmvn_file=cmvn_file,  # type: ignore[arg-type]
        fs=16000,
        window="hamming",
        n_mels=80,
        lfr_m=lfr_m,
        lfr_n=lfr_n,
        dither=0.0,
    )
    features, _ = frontend(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
    return features[0]


def official_counts(waveform: torch.Tensor) -> tuple[int, int]:
    """Numbers of FunASR's frames and of its stacked frames; few mel bins, to be quick."""
    from funasr.frontends.wav_frontend import apply_lfr
    from funasr.utils import fbank

    samples = waveform.unsqueeze(0)
    frames = fbank.fbank(samples, num_mel_bins=4, frame_length=25, frame_shift=10, dither=0.0)
    return len(frames), len(apply_lfr(frames, 7, 6))


def largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest absolute difference; shapes must agree, and there must be something to compare."""
    assert one.shape == other.shape, f"{tuple(one.shape)} against {tuple(other.shape)}"
    assert one.numel() > 0
    difference = (one.double() - other.double()).abs().max().item()
    assert np.isfinite(difference)
    return difference
