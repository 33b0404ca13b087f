"""The whole eager Paraformer graph against ``funasr.AutoModel`` on one checkpoint and audio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from exporter.graph.wrap import Wrapped, wrap
from exporter.models.upstream import quiet_upstream
from tests.support.paraformer_checkpoint import ids_of_text, write_checkpoint
from tests.support.pipelines import ALL_OUTPUTS, TINY_PARAFORMER, paraformer

AUDIO = Path(__file__).parents[2] / "golden" / "audio"
UNKNOWN = TINY_PARAFORMER["vocab_size"] - 1


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def ours(checkpoint: Path) -> Wrapped:
    return wrap(paraformer(weights=str(checkpoint)))


@pytest.fixture(scope="module")
def upstream(checkpoint: Path) -> Any:
    return auto_model(checkpoint)


def auto_model(folder: Path, *, max_segment_ms: int = 30000) -> Any:
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


def upstream_ids(model: Any, waveform: np.ndarray) -> list[list[int]]:
    with quiet_upstream():
        (result,) = model.generate(input=waveform)
    return ids_of_text(result["text"])


def our_ids(wrapped: Wrapped, waveform: np.ndarray) -> list[list[int]]:
    """As upstream writes them: without the unknown symbol."""
    results = wrapped.module(torch.from_numpy(waveform))
    named = dict(zip(ALL_OUTPUTS, results, strict=True))
    rows = zip(named["token_ids"].tolist(), named["token_lengths"].tolist(), strict=True)
    return [[i for i in ids[:length] if i != UNKNOWN] for ids, length in rows]


def speech(name: str) -> np.ndarray:
    samples, rate = soundfile.read(AUDIO / f"{name}.wav", dtype="float32")
    assert rate == 16000
    return samples


@pytest.mark.parametrize("name", ["english", "mandarin", "noisy", "long"])
def test_token_ids_are_those_of_auto_model(ours: Wrapped, upstream: Any, name: str) -> None:
    waveform = speech(name)
    expected = upstream_ids(upstream, waveform)
    assert sum(map(len, expected)) > 30 and len({i for row in expected for i in row}) > 4
    assert our_ids(ours, waveform) == expected


def test_the_comparison_sees_one_wrong_norm(checkpoint: Path, upstream: Any) -> None:
    wrapped = wrap(paraformer(weights=str(checkpoint)))
    norm = wrapped.module.get_parameter("model.decoder.decoders2.0.norm2.weight")
    with torch.no_grad():
        norm.mul_(0.5)
    waveform = speech("english")
    assert our_ids(wrapped, waveform) != upstream_ids(upstream, waveform)


def test_the_comparison_sees_a_tail_that_is_left_out(checkpoint: Path, upstream: Any) -> None:
    wrapped = wrap(paraformer(weights=str(checkpoint)))
    predictor: Any = wrapped.module.get_submodule("model.predictor")
    assert predictor.tail_threshold == 0.45
    predictor.tail_threshold = 0.0
    expected = upstream_ids(upstream, speech("long"))
    found = our_ids(wrapped, speech("long"))
    shorter = [len(a) - len(b) for a, b in zip(expected, found, strict=True)]
    # The last token of some segments fires only because of the tail.
    assert sum(shorter) >= 3 and min(shorter) == 0


def test_long_segments_are_cut_where_auto_model_cuts_them(checkpoint: Path) -> None:
    waveform = speech("mandarin")
    wrapped = wrap(paraformer(weights=str(checkpoint), max_segment_ms=700))
    expected = upstream_ids(auto_model(checkpoint, max_segment_ms=700), waveform)
    assert len(expected) > 5
    assert our_ids(wrapped, waveform) == expected


def test_silence_gives_no_text_on_both_sides(ours: Wrapped, upstream: Any) -> None:
    waveform = speech("silence")
    assert our_ids(ours, waveform) == []
    assert upstream_ids(upstream, waveform) == []
