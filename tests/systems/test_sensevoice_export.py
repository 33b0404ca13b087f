"""SenseVoice without its VAD and features (SenseVoice issue 95), as FunASR exports it.

The file is right on the features that it is given. What is missing is in front of it, and the
tokens show it: on the tiny seeded checkpoint, greedy tokens of the pipeline against those of
FunASR's front end and file,

                on the VAD's segments        on the whole recording
    english     0 of 137 differ              105 edits, 14 tokens begin in silence
    mandarin    0 of 118                     100 edits, 18
    noisy       0 of 89                       47 edits, 14

because the encoder attends to pauses (47 of 182 stacks of features in english) and counts its
positions from the start of the recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from exporter import cli
from exporter.graph.wrap import wrap
from exporter.report.schema import read_report
from tests.speech.upstream import golden
from tests.support.funasr_checkpoint import write_checkpoint
from tests.support.funasr_export import (
    PROMPT,
    SAMPLES_PER_STACK,
    FunasrRuntime,
    collapse,
    edits,
    exactly,
    funasr_onnx,
)
from tests.support.pipelines import sensevoice

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, WITHOUT_ITN = 4, 15
TOKENS = {"english": 137, "mandarin": 118, "noisy": 89}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with FunASR's own ONNX file in it."""
    folder = write_checkpoint(tmp_path_factory.mktemp("funasr") / "tiny")
    funasr_onnx(folder)
    return folder


@pytest.fixture(scope="module")
def runtime(checkpoint: Path) -> FunasrRuntime:
    return FunasrRuntime(checkpoint / "model.onnx")


@pytest.fixture(scope="module")
def pipeline(checkpoint: Path) -> Any:
    return wrap(sensevoice(weights=str(checkpoint)))


def recognised(pipeline: Any, waveform: torch.Tensor) -> tuple[list[list[int]], list[list[int]]]:
    """Segments and tokens of the pipeline: VAD, features and model as one graph."""
    with torch.no_grad():
        results = pipeline.module(waveform, torch.tensor(ENGLISH), torch.tensor(WITHOUT_ITN))
    found = dict(zip([spec.name for spec in pipeline.outputs], results, strict=True))
    pairs = zip(found["token_ids"], found["token_lengths"], strict=True)
    return found["segments"].tolist(), [exactly(ids[: int(n)]) for ids, n in pairs]


def test_the_report_names_what_is_outside_the_graph(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code = cli.main(
        [
            "verify",
            str(ROOT / "pipelines" / "sensevoice_tiny.yaml"),
            "--onnx",
            str(checkpoint / "model.onnx"),
            "--output-dir",
            str(tmp_path / "out"),
        ]
    )
    said = " ".join(capsys.readouterr().out.split())
    assert code == 1
    assert "takes features, not a waveform" in said
    report = read_report(tmp_path / "out" / "verify" / "report.json")
    assert report.verdict == "fail"
    reason = report.links[0].reason
    assert "takes features, not a waveform: VAD, fbank, LFR, CMVN are outside the graph" in reason
    assert "speech [batch_size, feats_length, 560]" in reason
    assert "output(s) segments, speech_probs" in reason


@pytest.mark.parametrize("name", TOKENS)
def test_on_the_segments_of_the_vad_no_token_differs(pipeline: Any, runtime: Any, name: str):
    waveform = golden(name)
    segments, tokens = recognised(pipeline, waveform)
    assert sum(map(len, tokens)) == TOKENS[name]
    for (start, end), ours in zip(segments, tokens, strict=True):
        theirs = runtime.tokens(waveform[start:end], ENGLISH, WITHOUT_ITN)
        assert edits(ours, theirs) == 0


@pytest.mark.parametrize(
    ("name", "expected", "in_silence"),
    [("english", 105, 14), ("mandarin", 100, 18), ("noisy", 47, 14)],
)
def test_without_the_vad_tokens_differ_because_pauses_are_recognised(
    pipeline: Any, runtime: Any, name: str, expected: int, in_silence: int
):
    waveform = golden(name)
    segments, tokens = recognised(pipeline, waveform)
    ours = sum(tokens, [])
    theirs, starts = collapse(runtime.best(waveform, ENGLISH, WITHOUT_ITN))
    # Numbers of seeded weights; a token more or less is another machine's rounding.
    assert edits(ours, theirs) == pytest.approx(expected, abs=4)

    def spoken(stack: int) -> bool:
        sample = (stack - PROMPT) * SAMPLES_PER_STACK
        return stack < PROMPT or any(start <= sample < end for start, end in segments)

    pauses = [n for n in starts if not spoken(n)]
    assert len(pauses) == pytest.approx(in_silence, abs=2)
    # Leaving those tokens out does not help: what was said is recognised otherwise, too.
    kept = [token for token, start in zip(theirs, starts, strict=True) if spoken(start)]
    assert edits(ours, kept) > len(ours) // 2
