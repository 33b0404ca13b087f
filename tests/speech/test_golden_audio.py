"""The golden recordings hold what golden/README.md says."""

from __future__ import annotations

import pytest
import soundfile

from exporter.speech.segments import SpeechSegments

from .upstream import AUDIO, golden

SEGMENTS = {"english": 4, "mandarin": 3, "noisy": 2, "long": 17, "silence": 0}

AT_8_KHZ = ("english_8k", "noisy_8k")


@pytest.mark.parametrize("name", SEGMENTS)
def test_the_vad_finds_the_utterances(vad, name) -> None:
    waveform = golden(name)
    segments = SpeechSegments()(vad(waveform), len(waveform))
    assert len(segments) == SEGMENTS[name]


def test_english_has_leading_inner_and_trailing_silence(vad) -> None:
    waveform = golden("english")
    segments = SpeechSegments()(vad(waveform), len(waveform))
    half_a_second = 8000
    assert segments[0, 0] > half_a_second
    assert (segments[1:, 0] - segments[:-1, 1]).max() > half_a_second
    assert len(waveform) - segments[-1, 1] > half_a_second


def test_long_is_one_minute_and_ends_in_speech(vad) -> None:
    waveform = golden("long")
    assert len(waveform) == 60 * 16000
    assert SpeechSegments()(vad(waveform), len(waveform))[-1, 1] == len(waveform)


def test_all_files_are_mono_16_bit_and_small() -> None:
    files = sorted(AUDIO.glob("*.wav"))
    assert [file.stem for file in files] == sorted([*SEGMENTS, *AT_8_KHZ])
    for file in files:
        info = soundfile.info(file)
        rate = 8000 if file.stem in AT_8_KHZ else 16000
        assert (info.samplerate, info.channels, info.subtype) == (rate, 1, "PCM_16")
    assert sum(file.stat().st_size for file in files) < 4_000_000
