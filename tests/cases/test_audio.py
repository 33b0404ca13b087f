"""Recordings are read exactly, or refused with what is wrong and what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from exporter.cases.audio import read_waveform
from exporter.core.errors import EXIT_USER_INPUT, AudioError, exit_code

RATE = 16000


def write(path: Path, samples: np.ndarray, subtype: str, rate: int = RATE) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def refused(path: Path, rate: int = RATE) -> AudioError:
    with pytest.raises(AudioError) as caught:
        read_waveform(path, rate)
    error = caught.value
    assert str(path) in str(error)
    assert error.remedy
    assert exit_code(error) == EXIT_USER_INPUT
    return error


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_16_bit_is_divided_by_2_to_the_15(tmp_path, suffix) -> None:
    samples = np.array([-32768, -1, 0, 1, 32767], dtype=np.int16)
    waveform = read_waveform(write(tmp_path / f"a.{suffix}", samples, "PCM_16"), RATE)
    assert waveform.dtype == np.float32
    assert (waveform == samples.astype(np.float32) / 32768).all()
    assert waveform.min() == -1.0
    assert waveform.max() < 1.0


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_24_bit_is_divided_by_2_to_the_23(tmp_path, suffix) -> None:
    samples = np.array([-(2**31), -256, 0, 256, 2**31 - 256], dtype=np.int32)
    waveform = read_waveform(write(tmp_path / f"a.{suffix}", samples, "PCM_24"), RATE)
    assert (waveform == (samples // 256 / 8388608).astype(np.float32)).all()


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_are_taken_as_they_are(tmp_path, subtype) -> None:
    samples = np.array([-1.5, -0.1, 0.0, 1e-9, 1.25])
    waveform = read_waveform(write(tmp_path / "a.wav", samples, subtype), RATE)
    assert (waveform == samples.astype(np.float32)).all()


def test_golden_audio_is_read() -> None:
    audio = Path(__file__).parents[2] / "golden" / "audio"
    waveform = read_waveform(audio / "english.wav", RATE)
    assert waveform.shape == (175047,)
    assert waveform.flags["C_CONTIGUOUS"]


def test_stereo_is_refused(tmp_path) -> None:
    path = write(tmp_path / "a.wav", np.zeros((100, 2)), "PCM_16")
    assert "2 channels" in refused(path).problem


def test_another_sample_rate_is_refused_with_both_rates(tmp_path) -> None:
    error = refused(write(tmp_path / "a.wav", np.zeros(100), "PCM_16", rate=44100))
    assert "44100" in error.problem
    assert "16000" in error.problem


def test_an_empty_recording_is_refused(tmp_path) -> None:
    assert "no samples" in refused(write(tmp_path / "a.wav", np.zeros(0), "PCM_16")).problem


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_samples_are_refused_with_their_place(tmp_path, bad) -> None:
    samples = np.zeros(2000, dtype=np.float32)
    samples[[800, 900]] = bad
    error = refused(write(tmp_path / "a.wav", samples, "FLOAT"))
    assert "2 of 2000" in error.problem
    assert "sample 800 (0.050 s)" in error.problem


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path) -> None:
    assert "does not exist" in refused(tmp_path / "none.wav").problem
    assert "is a folder" in refused(tmp_path).problem


@pytest.mark.parametrize("content", [b"", b"RIFF", b"this is not audio" * 50, bytes(5000)])
def test_what_is_not_audio_is_refused(tmp_path, content) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert "cannot be decoded" in refused(path).problem


def test_a_cut_off_flac_is_refused(tmp_path) -> None:
    noise = np.random.Generator(np.random.PCG64(0)).normal(0, 0.1, 50000)
    path = write(tmp_path / "a.flac", noise, "PCM_16")
    path.write_bytes(path.read_bytes()[:40000])
    refused(path)


def test_a_cut_off_wav_is_read_as_far_as_it_goes(tmp_path) -> None:
    """Programs that write to a pipe leave a length that is too large; that is no damage."""
    samples = np.arange(20000, dtype=np.int16)
    path = write(tmp_path / "a.wav", samples, "PCM_16")
    path.write_bytes(path.read_bytes()[: 44 + 2 * 15000])
    assert (read_waveform(path, RATE) * 32768 == samples[:15000]).all()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no such system")
def test_a_file_that_cannot_be_read_prints_nothing(capfd):
    """Errors inside of callbacks are printed by whoever calls back, traceback and all."""
    with pytest.raises(AudioError):
        read_waveform("/proc/self/mem", 16000)
    assert "Traceback" not in capfd.readouterr().err
