"""SenseVoice as FunASR exports it: ``AutoModel(...).export()``, features in, logits out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from exporter.graph.capture import quiet_exporter
from exporter.models.upstream import quiet_upstream
from tests.speech.upstream import official_features

SAMPLES_PER_STACK = 960
"""LFR 7/6 over frames of 10 ms."""
PROMPT = 4


def funasr_onnx(checkpoint: Path) -> Path:
    """Let FunASR write its ``model.onnx`` into the checkpoint's folder."""
    quiet = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript")]
    levels = [logger.level for logger in quiet]
    with quiet_upstream(), quiet_exporter():
        from funasr import AutoModel

        for logger in quiet:
            logger.setLevel(logging.ERROR)
        options: dict[str, Any] = {"disable_update": True, "disable_pbar": True}
        AutoModel(model=str(checkpoint), device="cpu", **options).export(
            type="onnx", quantize=False, opset_version=18
        )
    for logger, level in zip(quiet, levels, strict=True):
        logger.setLevel(level)
    return checkpoint / "model.onnx"


class FunasrRuntime:
    """FunASR's front end in Python, its ONNX file, greedy decoding. There is no VAD.

    Args:
        path: the ONNX file, beside ``am.mvn``.
    """

    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._statistics = str(path.parent / "am.mvn")

    def best(self, waveform: Tensor, language: int, text_norm: int) -> np.ndarray:
        """The best token of every stack of features, the prompt's four not included."""
        speech = official_features(waveform, cmvn_file=self._statistics)
        inputs = {
            "speech": speech.unsqueeze(0).numpy(),
            "speech_lengths": np.array([len(speech)], np.int32),
            "language": np.array([language], np.int32),
            "textnorm": np.array([text_norm], np.int32),
        }
        logits = np.asarray(self._session.run(["ctc_logits"], inputs)[0])[0]
        return logits.argmax(-1)

    def tokens(self, waveform: Tensor, language: int, text_norm: int) -> list[int]:
        """Greedy decoding of the whole, the prompt's tokens included."""
        return collapse(self.best(waveform, language, text_norm))[0]


def collapse(best: np.ndarray, blank: int = 0) -> tuple[list[int], list[int]]:
    """Greedy CTC: the tokens, and the stack at which each begins."""
    starts = [n for n, token in enumerate(best) if n == 0 or token != best[n - 1]]
    kept = [n for n in starts if best[n] != blank]
    return [int(best[n]) for n in kept], kept


def edits(left: list[int], right: list[int]) -> int:
    """Insertions, deletions and replacements that turn one list into the other."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def exactly(tensor: Tensor) -> list[int]:
    """Integers of a tensor."""
    return [int(value) for value in tensor.to(torch.int64).tolist()]
