"""Each planted difference is named, alone; the same features are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporter.cases.audio import read_waveform
from exporter.features.front_end import FrontEnd, Material
from exporter.features.programs import features_of
from exporter.features.resamplers import resampled
from exporter.features.residual import ROUNDING
from exporter.features.search import FrontEndSearch
from exporter.features.space import PRESETS
from tests.support.planted_features import PLANTED, RATE, SCALE, SHIFT, Planted, kaldi, stacked

START = FrontEnd(window="hamming")
GOLDEN = Path(__file__).parents[2] / "golden" / "audio" / "english.wav"


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    return read_waveform(GOLDEN, RATE)[8000 : 8000 + 2 * RATE]


def named(theirs: np.ndarray, material: Material, start: FrontEnd = START) -> list[str]:
    """The parameters that the search names; fails where something is left."""
    search = FrontEndSearch(theirs, material)
    found = search.found(start)
    assert found.fit.explained(search.enough), found
    steps = search.steps(start, found.front_end)
    assert all(step.after < step.before for step in steps)
    return [step.parameter for step in steps] + ["last frame"] * bool(found.fit.frames)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda p: f"{p.parameter}-{p.words}")
def test_a_planted_difference_is_named_alone(waveform, planted: Planted):
    theirs = planted.make(waveform)
    assert named(theirs, Material({"none": waveform})) == [planted.parameter]


def test_the_same_features_have_no_difference(waveform):
    assert named(kaldi(waveform), Material({"none": waveform})) == []
    assert named(kaldi(waveform).astype(np.float16), Material({"none": waveform})) == []


def test_several_differences_are_named_together(waveform):
    theirs = kaldi(waveform, scale=1.0, snip_edges=False, window_type="povey", high_freq=-400)
    found = named(theirs, Material({"none": waveform}))
    assert found == ["edges and padding", "sample scale", "window", "high frequency"]


LIBROSA = replace(PRESETS["librosa"], log="ln")


@pytest.mark.parametrize(
    ("parameters", "gain", "options"),
    [
        ([], 1.0, {}),
        (["sample scale"], 0.5, {}),
        (["mel scale"], 1.0, {"htk": True}),
        (["mel filter area"], 1.0, {"norm": None}),
        (["edges and padding"], 1.0, {"pad_mode": "reflect"}),
        (["edges and padding"], 1.0, {"center": False}),
        (["power or magnitude"], 1.0, {"power": 1.0}),
        (["frame length"], 1.0, {"win_length": 320}),
        (["hop", "frame length"], 1.0, {"hop_length": 144, "win_length": 368}),
        (["high frequency"], 1.0, {"fmax": 7000}),
    ],
    ids=str,
)
def test_what_librosa_does_otherwise_is_named(waveform, parameters, gain, options):
    librosa = pytest.importorskip("librosa")
    given = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80, **options}
    made = librosa.feature.melspectrogram(y=waveform * np.float32(gain), sr=RATE, **given).T
    theirs = np.log(np.maximum(made, 1e-10))
    assert sorted(named(theirs, Material({"none": waveform}), LIBROSA)) == sorted(parameters)


@pytest.mark.parametrize(
    ("parameter", "changed"),
    [
        ("low frame rate", {"stride": 5}),
        ("sample scale", {"scale": 1.0}),
        ("window", {"window_type": "povey"}),
        ("dither", {"dither": 1.0}),
    ],
)
def test_a_difference_in_front_of_stacked_frames_is_named(waveform, parameter, changed):
    material = Material({"none": waveform}, {"the pipeline's": (SHIFT, SCALE)})
    start = replace(START, stack=7, stride=6, statistics="the pipeline's")
    stride = changed.pop("stride", 6)
    theirs = (stacked(kaldi(waveform, **changed), 7, stride) + SHIFT) * SCALE
    assert named(theirs, material, start) == [parameter]


def test_dither_does_not_hide_a_window(waveform):
    theirs = kaldi(waveform, dither=1.0, window_type="hanning")
    assert named(theirs, Material({"none": waveform})) == ["dither", "window"]


def test_fixed_statistics_that_were_left_out_are_named(waveform):
    material = Material({"none": waveform}, {"the pipeline's": (SHIFT, SCALE)})
    start = replace(START, stack=7, stride=6, statistics="the pipeline's")
    theirs = stacked(kaldi(waveform))
    assert named((theirs + SHIFT) * SCALE, material, start) == []
    assert named(theirs, material, start) == ["fixed statistics"]


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("way", ["linear", "nearest", "soxr HQ"])
def test_a_resampler_is_named(rate, way):
    draw = np.random.Generator(np.random.PCG64(0))
    time = np.arange(2 * rate) / rate
    chirp = 0.3 * np.sin(2 * np.pi * (100 + 900 * time) * time) + 0.01 * draw.standard_normal(
        len(time)
    )
    ways, _ = resampled(chirp, rate, RATE)
    if way not in ways:
        pytest.skip(f"{way} is not installed")
    theirs = kaldi(ways[way].astype(np.float32))
    assert named(theirs, Material(ways), replace(START, resampler="sinc")) == ["resampler"]


@pytest.mark.slow
def test_features_of_something_else_are_explained_by_nothing(waveform):
    theirs = np.random.Generator(np.random.PCG64(0)).normal(5, 3, (198, 80))
    search = FrontEndSearch(theirs, Material({"none": waveform}))
    found = search.found(START)
    assert not found.fit.explained(search.enough)
    assert found.fit.residual > 0.5


@pytest.mark.slow
def test_another_recording_is_not_explained_by_noise(waveform):
    other = read_waveform(GOLDEN, RATE)[64000 : 64000 + 2 * RATE]
    search = FrontEndSearch(kaldi(other), Material({"none": waveform}))
    found = search.found(START)
    assert not found.fit.explained(search.enough)


@pytest.mark.parametrize("program", ["kaldi-native-fbank", "sherpa-onnx"])
def test_features_of_the_programs_pass(waveform, program):
    theirs, _ = features_of(program, waveform, START, low_frame_rate=7)
    search = FrontEndSearch(theirs, Material({"none": waveform}))
    assert search.fit(START).residual < ROUNDING
    assert search.fit(START).frames == 0
