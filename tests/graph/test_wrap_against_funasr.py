"""The whole eager graph against ``funasr.AutoModel`` on the same checkpoint and audio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from exporter.graph.wrap import Wrapped, wrap
from exporter.models.upstream import quiet_upstream
from tests.support.funasr_checkpoint import TINY_SETTINGS, ids_of_text, write_checkpoint
from tests.support.pipelines import ALL_OUTPUTS, sensevoice

AUDIO = Path(__file__).parents[2] / "golden" / "audio"
VOCAB = TINY_SETTINGS["vocab_size"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def ours(checkpoint: Path) -> Wrapped:
    return wrap(sensevoice(weights=str(checkpoint)))


@pytest.fixture(scope="module")
def upstream(checkpoint: Path) -> Any:
    return auto_model(checkpoint, max_segment_ms=30000)


def auto_model(folder: Path, *, max_segment_ms: int) -> Any:
    with quiet_upstream():
        from funasr import AutoModel

        return AutoModel(
            model=str(folder),
            vad_model="silero-vad",
            vad_kwargs={"max_single_segment_time": max_segment_ms},
            device="cpu",
            ncpu=torch.get_num_threads(),
            disable_update=True,
            disable_pbar=True,
            log_level="ERROR",
        )


def upstream_ids(
    model: Any, waveform: np.ndarray, language: str, text_norm: str
) -> list[list[int]]:
    with quiet_upstream():
        (result,) = model.generate(input=waveform, language=language, text_norm=text_norm)
    return ids_of_text(result["text"], VOCAB)


def our_ids(
    wrapped: Wrapped, waveform: np.ndarray, language: str, text_norm: str
) -> list[list[int]]:
    specs = {spec.name: spec for spec in wrapped.inputs}
    results = wrapped.module(
        torch.from_numpy(waveform),
        torch.tensor(specs["language"].choices[language]),
        torch.tensor(specs["text_norm"].choices[text_norm]),
    )
    named = dict(zip(ALL_OUTPUTS, results, strict=True))
    rows = zip(named["token_ids"].tolist(), named["token_lengths"].tolist(), strict=True)
    return [ids[:length] for ids, length in rows]


def speech(name: str) -> np.ndarray:
    samples, rate = soundfile.read(AUDIO / f"{name}.wav", dtype="float32")
    assert rate == 16000
    return samples


@pytest.mark.parametrize(
    ("name", "language", "text_norm"),
    [
        ("english", "en", "woitn"),
        ("english", "auto", "withitn"),
        ("mandarin", "zh", "withitn"),
        ("noisy", "auto", "woitn"),
        ("long", "en", "woitn"),
    ],
)
def test_token_ids_are_those_of_auto_model(
    ours: Wrapped, upstream: Any, name: str, language: str, text_norm: str
) -> None:
    waveform = speech(name)
    expected = upstream_ids(upstream, waveform, language, text_norm)
    assert sum(map(len, expected)) > 50
    assert our_ids(ours, waveform, language, text_norm) == expected


def test_the_comparison_sees_another_language(ours: Wrapped, upstream: Any) -> None:
    waveform = speech("english")
    assert our_ids(ours, waveform, "zh", "woitn") != upstream_ids(upstream, waveform, "en", "woitn")


def test_the_comparison_sees_one_wrong_weight_matrix(checkpoint: Path, upstream: Any) -> None:
    wrapped = wrap(sensevoice(weights=str(checkpoint)))
    norm = wrapped.module.get_parameter("model.encoder.encoders.0.norm2.weight")
    with torch.no_grad():
        norm.mul_(0.5)
    waveform = speech("english")
    assert our_ids(wrapped, waveform, "en", "woitn") != upstream_ids(
        upstream, waveform, "en", "woitn"
    )


def test_long_segments_are_cut_where_auto_model_cuts_them(checkpoint: Path) -> None:
    waveform = speech("mandarin")
    wrapped = wrap(sensevoice(weights=str(checkpoint), max_segment_ms=700))
    expected = upstream_ids(auto_model(checkpoint, max_segment_ms=700), waveform, "zh", "woitn")
    assert len(expected) > len(
        our_ids(wrap(sensevoice(weights=str(checkpoint))), waveform, "zh", "woitn")
    )
    assert our_ids(wrapped, waveform, "zh", "woitn") == expected


def test_silence_gives_no_text_on_both_sides(ours: Wrapped, upstream: Any) -> None:
    waveform = speech("silence")
    assert our_ids(ours, waveform, "auto", "woitn") == []
    assert upstream_ids(upstream, waveform, "auto", "woitn") == []
