"""VAD, features and a model as one module: what goes in is a waveform."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from exporter.speech.cmvn import Cmvn
from exporter.speech.cut import CutSegments
from exporter.speech.fbank import KaldiFbank
from exporter.speech.lfr import LowFrameRate
from exporter.speech.segments import SpeechSegments
from exporter.speech.vad import SileroVad


class SpeechGraph(nn.Module):
    """One recording in, one row of results per speech segment out.

        waveform -> vad -> segmenter -> cut -> fbank -> lfr -> cmvn -> model
                     |         |                                         |
               speech_probs  segments                     rows, cut back to the segments

    Args:
        vad: waveform to speech probabilities.
        segmenter: probabilities to segments.
        cut: waveform and segments to rows; at least one, a guard without speech.
        fbank, lfr, cmvn: the features.
        model: features, counts and prompts to a dict of tensors with one row per segment.
        outputs: which values ``forward`` returns, in this order.
    """

    def __init__(
        self,
        *,
        vad: SileroVad,
        segmenter: SpeechSegments,
        cut: CutSegments,
        fbank: KaldiFbank,
        lfr: LowFrameRate,
        cmvn: Cmvn,
        model: nn.Module,
        outputs: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.vad = vad
        self.segmenter = segmenter
        self.cut = cut
        self.fbank = fbank
        self.lfr = lfr
        self.cmvn = cmvn
        self.model = model
        self.outputs = outputs

    def forward(
        self, waveform: Tensor, language: Tensor | None = None, text_norm: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Segment and recognise a recording.

        Args:
            waveform: ``[num_samples]`` float32 in [-1, 1], at least one sample.
            language: ``[]`` int64; only for models with prompts.
            text_norm: ``[]`` int64; only for models with prompts.

        Returns:
            ``speech_probs`` [frames of the VAD], ``segments`` [S, 2] int64 in samples, and the
            model's values with S rows: those of ``outputs``. S is 0 without speech.
        """
        prompts = [prompt for prompt in (language, text_norm) if prompt is not None]
        speech_probs = self.vad(waveform)
        segments = self.segmenter(speech_probs, waveform.shape[0])
        pieces, piece_lengths = self.cut(waveform, segments)
        frames, frame_counts = self.fbank(pieces, piece_lengths)
        stacks, counts = self.lfr(frames, frame_counts)
        features = self.cmvn(stacks, counts)
        rows = self.model(features, counts, *prompts)
        outputs = {"speech_probs": speech_probs, "segments": segments}
        for name, value in rows.items():
            if name in self.outputs:
                outputs[name] = _first(value, segments.shape[0])
        return tuple(outputs[name] for name in self.outputs)


class BatchedSpeechGraph(nn.Module):
    """A batch of utterances in, one row of results per utterance out; there is no VAD.

    Args:
        fbank, lfr, cmvn, model, outputs: as in ``SpeechGraph``.
    """

    def __init__(
        self,
        *,
        fbank: KaldiFbank,
        lfr: LowFrameRate,
        cmvn: Cmvn,
        model: nn.Module,
        outputs: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.fbank = fbank
        self.lfr = lfr
        self.cmvn = cmvn
        self.model = model
        self.outputs = outputs

    def forward(
        self,
        waveform: Tensor,
        waveform_lengths: Tensor,
        language: Tensor | None = None,
        text_norm: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Recognise a batch; what lies behind an utterance's length changes nothing.

        Args:
            waveform: ``[batch, num_samples]`` float32 in [-1, 1].
            waveform_lengths: ``[batch]`` int64, samples in use.
            language: ``[]`` int64; only for models with prompts.
            text_norm: ``[]`` int64; only for models with prompts.

        Returns:
            The model's values, one row per utterance: those of ``outputs``.
        """
        prompts = [prompt for prompt in (language, text_norm) if prompt is not None]
        # A convolution needs one whole frame, even if no utterance has one.
        pieces = _with_at_least(waveform, self.fbank.frame_samples)
        frames, frame_counts = self.fbank(pieces, waveform_lengths)
        stacks, counts = self.lfr(frames, frame_counts)
        features = self.cmvn(stacks, counts)
        rows = self.model(features, counts, *prompts)
        return tuple(rows[name] for name in self.outputs)


def _with_at_least(waveform: Tensor, num_samples: int) -> Tensor:
    """Append zeros to ``[batch, N]`` where N is less than ``num_samples``."""
    missing: Any = torch.sym_max(waveform.shape[1], num_samples) - waveform.shape[1]
    return nn.functional.pad(waveform, (0, missing))


def _first(values: Tensor, count: int) -> Tensor:
    # Rows are max(count, 1): without speech this cuts the guard row off.
    torch._check(count <= values.shape[0])
    return values.narrow(0, 0, count)
