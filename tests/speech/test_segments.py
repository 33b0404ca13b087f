"""Segments are those of silero-vad and, with milliseconds and splitting, those of FunASR."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.errors import ConfigError
from exporter.speech.segments import SpeechSegments

from .upstream import golden, official_probs, official_segments

DEFAULTS: dict[str, float] = {}
PARAMETER_SETS = [
    DEFAULTS,
    {"negative_threshold": 0.35},
    {"threshold": 0.3, "negative_threshold": 0.3},
    {"threshold": 0.7, "min_speech_ms": 0, "min_silence_ms": 0, "speech_pad_ms": 0},
    {"min_silence_ms": 32, "speech_pad_ms": 200},
    {"min_speech_ms": 32, "min_silence_ms": 33, "speech_pad_ms": 16},
    {"min_speech_ms": 500, "min_silence_ms": 700, "speech_pad_ms": 400},
    {"threshold": 0.1, "speech_pad_ms": 31.3, "min_speech_ms": 63.97, "min_silence_ms": 95.999},
    {"sample_rate_hz": 8000},
    {"sample_rate_hz": 8000, "min_silence_ms": 50, "speech_pad_ms": 90.7},
]


def ours(probs: torch.Tensor, num_samples: int, parameters: dict) -> list[list[int]]:
    module = SpeechSegments(**parameters, max_segment_ms=None, round_to_ms=False)
    return module(probs, torch.tensor(num_samples)).tolist()


def random_track(draw: np.random.Generator, frames: int) -> np.ndarray:
    """Probabilities that stay and jump like real ones, often exactly on a threshold."""
    style = draw.integers(4)
    if style == 0:
        track = draw.random(frames)
    elif style == 1:  # runs of speech and silence
        level = np.repeat(draw.random(frames // 3 + 1), draw.integers(1, 12, frames // 3 + 1))
        track = np.resize(level, frames) + draw.normal(0, 0.05, frames)
    elif style == 2:  # only values at and next to the thresholds
        values = np.array([0.35, 0.5, 0.3, 0.7, 0.55, 0.1, 0.01, 0.15, 0.0, 1.0], np.float32)
        beside = np.concatenate(
            [values, np.nextafter(values, np.float32(-1)), np.nextafter(values, np.float32(2))]
        )
        track = draw.choice(beside, frames)
    else:
        track = (np.sin(np.arange(frames) / draw.uniform(1, 20)) + 1) / 2
    return np.clip(track, 0, 1).astype(np.float32)


def test_segments_equal_silero_on_2500_random_tracks() -> None:
    draw = np.random.Generator(np.random.PCG64(11))
    found_any = 0
    for number in range(2500):
        parameters = PARAMETER_SETS[number % len(PARAMETER_SETS)]
        size = 256 if parameters.get("sample_rate_hz") == 8000 else 512
        frames = int(draw.integers(1, 120)) if number % 9 else int(draw.integers(1, 4))
        probs = torch.from_numpy(random_track(draw, frames))
        num_samples = frames * size - int(draw.integers(0, size))
        expected = official_segments(probs, num_samples, **parameters)
        assert ours(probs, num_samples, parameters) == expected, (number, parameters)
        found_any += bool(expected)
    assert found_any > 800


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(
    track=st.lists(st.floats(0, 1, width=32), max_size=60),
    missing=st.integers(0, 511),
    threshold=st.floats(0.05, 0.95),
    below=st.floats(0, 0.3),
    min_speech_ms=st.integers(0, 400),
    min_silence_ms=st.integers(0, 400),
    speech_pad_ms=st.integers(0, 300),
)
def test_segments_equal_silero_for_any_parameters(
    track, missing, threshold, below, min_speech_ms, min_silence_ms, speech_pad_ms
) -> None:
    parameters = {
        "threshold": threshold,
        "negative_threshold": max(threshold - below, 0.01),
        "min_speech_ms": min_speech_ms,
        "min_silence_ms": min_silence_ms,
        "speech_pad_ms": speech_pad_ms,
    }
    probs = torch.tensor(track, dtype=torch.float32)
    num_samples = max(len(track) * 512 - missing, 0)
    expected = official_segments(probs, num_samples, **parameters)
    assert ours(probs, num_samples, parameters) == expected


ADVERSARIAL = {
    "one frame of speech": [1.0],
    "one frame of silence": [0.0],
    "speech throughout": [0.9] * 40,
    "silence throughout": [0.0] * 40,
    "in between throughout": [0.4] * 40,
    "starts in speech": [0.9] * 20 + [0.0] * 20,
    "ends in speech": [0.0] * 20 + [0.9] * 20,
    "exactly at the threshold": [0.0] * 3 + [0.5] * 20 + [0.0] * 20,
    "exactly at the negative threshold": [0.9] * 20 + [0.35] * 20,
    "just below the negative threshold": [0.9] * 20
    + [float(np.nextafter(np.float32(0.35), 0))] * 20,
    "silence one frame too short": [0.9] * 20 + [0.0] * 4 + [0.9] * 20,
    "silence just long enough": [0.9] * 20 + [0.0] * 5 + [0.9] * 20,
    "silence interrupted by in between": [0.9] * 20 + [0.0, 0.4, 0.4, 0.4, 0.0] + [0.9] * 9,
    "first lo far before the end": [0.9] * 20 + [0.0] + [0.4] * 30 + [0.0],
    "lo only once": [0.9] * 20 + [0.0] + [0.4] * 30,
    "speech a hair too short": [0.0] + [0.9] * 7 + [0.0] * 20,
    "speech just long enough": [0.0] + [0.9] * 8 + [0.0] * 20,
    "alternating": [0.9, 0.0] * 40,
    "neighbours share the gap": ([0.9] * 10 + [0.0] * 5) * 4,
}


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("parameters", PARAMETER_SETS[:8], ids=str)
def test_segments_equal_silero_on_adversarial_tracks(name, parameters) -> None:
    probs = torch.tensor(ADVERSARIAL[name], dtype=torch.float32)
    for num_samples in (len(probs) * 512, len(probs) * 512 - 511):
        expected = official_segments(probs, num_samples, **parameters)
        assert ours(probs, num_samples, parameters) == expected


def test_no_frames_have_no_segments() -> None:
    assert SpeechSegments()(torch.zeros(0), torch.tensor(0)).shape == (0, 2)


@pytest.mark.parametrize("name", ["english", "mandarin", "noisy", "long", "silence"])
def test_segments_equal_silero_on_speech(vad, name) -> None:
    waveform = golden(name)
    probs = vad(waveform)
    for parameters in PARAMETER_SETS[:8]:
        expected = official_segments(probs, len(waveform), **parameters)
        assert ours(probs, len(waveform), parameters) == expected
        assert bool(expected) == (name != "silence")


@pytest.fixture(scope="module")
def funasr_vad(official_vad):
    from funasr.models.silero_vad.model import SileroVad

    return SileroVad()


@pytest.mark.parametrize("name", ["english", "long", "silence"])
@pytest.mark.parametrize("longest_ms", [30000, 1999, 500, None])
def test_segments_equal_funasr_in_milliseconds(vad, funasr_vad, name, longest_ms) -> None:
    waveform = golden(name)
    module = SpeechSegments(max_segment_ms=longest_ms)
    found = module(vad(waveform), len(waveform))
    expected = funasr_segments(funasr_vad, waveform, name, longest_ms)
    assert (found % 16 == 0).all()
    assert (found // 16).tolist() == expected
    assert bool(expected) == (name != "silence")


_FUNASR_CACHE: dict[str, list[list[int]]] = {}


def funasr_segments(adapter, waveform: torch.Tensor, name: str, longest_ms: int | None) -> list:
    """The adapter's answer; its slow frame loop runs once a file, its splitting every time."""
    if name not in _FUNASR_CACHE:
        results, _ = adapter.inference([waveform.numpy()], fs=16000)
        _FUNASR_CACHE[name] = results[0]["value"]
    whole = [list(segment) for segment in _FUNASR_CACHE[name]]
    return adapter._split_long_segments(whole, longest_ms)


def test_funasr_splits_inside_inference_as_it_does_outside(vad, funasr_vad) -> None:
    waveform = golden("english")
    results, _ = funasr_vad.inference([waveform.numpy()], fs=16000, max_single_segment_time=700)
    found = SpeechSegments(max_segment_ms=700)(vad(waveform), len(waveform))
    assert (found // 16).tolist() == results[0]["value"]
    assert len(found) > 8


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_segment_around_a_multiple_of_the_maximum_is_split_as_funasr_does(extra) -> None:
    from funasr.models.silero_vad.model import SileroVad

    probs = torch.full((200,), 0.9)
    num_samples = (3000 + extra) * 16
    found = SpeechSegments(max_segment_ms=1000)(probs, num_samples) // 16
    assert found.tolist() == SileroVad._split_long_segments([[0, 3000 + extra]], 1000)


def test_samples_beyond_float32_stay_exact() -> None:
    """Above 2**24 samples (17 minutes) a detour through float32 would move ends."""
    frames = 40000
    probs = torch.zeros(frames)
    probs[39000:39100] = 0.9
    found = SpeechSegments(round_to_ms=True)(probs, frames * 512).tolist()
    assert found == [[39000 * 512 - 480, 39100 * 512 + 480]]
    assert found[0][0] > 2**24


# --- sabotage: each of these must be seen by the comparison above ---


def differs_somewhere(parameters: dict, change) -> bool:
    draw = np.random.Generator(np.random.PCG64(5))
    for _ in range(200):
        probs = torch.from_numpy(random_track(draw, 80))
        module = SpeechSegments(**parameters, max_segment_ms=None, round_to_ms=False)
        change(module)
        if module(probs, 80 * 512).tolist() != official_segments(probs, 80 * 512, **parameters):
            return True
    return False


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("negative_threshold", 0.36),
        ("threshold", math.nextafter(0.5, 1.0) + 1e-7),
        ("min_silence_frames", 5),
        ("min_speech_samples", 3999 - 512),
        ("pad_before", 479),
        ("pad_after", 481),
        ("both_pads", 2600),
    ],
)
def test_a_changed_parameter_is_seen(attribute, value) -> None:
    assert not differs_somewhere({}, lambda module: None)
    assert differs_somewhere({}, lambda module: setattr(module, attribute, value))


@pytest.mark.parametrize(
    ("parameters", "where"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"threshold": 0.4, "negative_threshold": 0.5}, "negative_threshold"),
        ({"negative_threshold": 0.0}, "negative_threshold"),
        ({"min_speech_ms": -1}, "min_speech_ms"),
        ({"min_silence_ms": math.inf}, "min_silence_ms"),
        ({"speech_pad_ms": -0.1}, "speech_pad_ms"),
        ({"max_segment_ms": 0}, "max_segment_ms"),
        ({"sample_rate_hz": 44100}, "sample_rate_hz"),
    ],
)
def test_impossible_parameters_are_refused(parameters, where) -> None:
    with pytest.raises(ConfigError) as caught:
        SpeechSegments(**parameters)
    assert caught.value.where == where


def test_probabilities_and_segments_together_equal_the_official_call(vad, official_vad) -> None:
    from silero_vad import get_speech_timestamps

    waveform = golden("mandarin")
    expected = [[s["start"], s["end"]] for s in get_speech_timestamps(waveform, official_vad)]
    assert ours(vad(waveform), len(waveform), {}) == expected
    assert len(expected) >= 3
    assert official_probs(official_vad, waveform, 16000).shape == vad(waveform).shape
