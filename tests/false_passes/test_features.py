"""Features that are not the pipeline's, in ways that a careless comparison lets pass."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from exporter.cases.audio import read_waveform
from exporter.cli import main
from exporter.features.front_end import Material
from tests.false_passes.way import Told, way
from tests.support.speech_toy import FRONT_END, write_toy

GOLDEN = Path(__file__).parents[2] / "golden" / "audio" / "english.wav"


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A pipeline, and the features that it computes."""
    waveform = read_waveform(GOLDEN, 16000)[8000:24000]
    made = Material({"none": waveform}).features(FRONT_END).astype(np.float32)
    return write_toy(tmp_path, waveform), made


def told(pipeline: Path, features: np.ndarray, capsys: pytest.CaptureFixture[str]) -> Told:
    path = pipeline.parent / "theirs.npy"
    np.save(path, features)
    code = main(["features", str(pipeline), "--from", str(path), "--trust"])
    said = capsys.readouterr()
    return Told(exit_code=code, text=" ".join((said.out + said.err).split()))


@way("features that lack the last frame, the same in all that both have", says="1 fewer at the end")
def test_a_frame_too_few(given, capsys):
    return told(given[0], given[1][:-1], capsys)


@pytest.mark.slow
@way("features with one wrong value in one frame of a hundred", says="frame 50")
def test_one_value(given, capsys):
    features = given[1].copy()
    features[50, 7] += 1.0
    return told(given[0], features, capsys)


@way("features with a NaN where the pipeline's are finite", says="1 of 4040 values are NaN")
def test_nan(given, capsys):
    features = given[1].copy()
    features[3, 7] = np.nan
    return told(given[0], features, capsys)


@pytest.mark.slow
@way("features that are all the same value", says="no front end that was tried gives them")
def test_constant(given, capsys):
    return told(given[0], np.full_like(given[1], given[1].mean()), capsys)


@way("features of no frame at all", says="has shape [0, 40]")
def test_empty(given, capsys):
    return told(given[0], given[1][:0], capsys)


@way("a program whose features are other ones each time, by less than any limit", says="each time")
def test_noise_below_every_limit(given, capsys):
    pipeline, features = given
    np.save(pipeline.parent / "held.npy", features)
    tool = pipeline.parent / "tool.py"
    tool.write_text(
        "import sys, numpy as np\n"
        f"held = np.load({str(pipeline.parent / 'held.npy')!r})\n"
        "noise = np.random.default_rng().standard_normal(held.shape)\n"
        "np.save(sys.argv[2], (held + 1e-6 * noise).astype(np.float32))\n"
    )
    call = f"{sys.executable} {tool} {{wav}} {{out}}"
    code = main(["features", str(pipeline), "--command", call, "--trust"])
    return Told(exit_code=code, text=" ".join(capsys.readouterr().out.split()))
