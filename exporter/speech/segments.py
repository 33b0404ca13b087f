"""Speech probabilities to speech segments, without a loop over frames.

The decision is the one of ``silero_vad.get_speech_timestamps`` (without its maximum length,
which is a stateful search), followed by what FunASR's ``SileroVad`` adapter does with it:
whole milliseconds, and long segments cut into pieces of a maximum length.

A frame is ``hi`` when its probability reaches the threshold and ``lo`` when it is below the
negative threshold; in between it decides nothing:

    hi hi .. lo .. lo lo hi hi lo lo lo lo lo lo .. hi
             |--- gap -| short: still one segment
                               |----- gap -------|  long: the segment ended at its first lo

Only the gap behind a hi frame, up to the next hi frame, can end a segment, and it does so when
its last lo is at least ``min_silence`` behind its first lo. So each hi frame decides on its own
whether a segment ends behind it, and counting (CumSum) plus looking up (Gather) is enough.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from exporter.core.errors import ConfigError
from exporter.speech.sizes import data_dependent
from exporter.speech.vad import FRAME_SAMPLES


class SpeechSegments(nn.Module):
    """Segments of speech, in samples, from one probability per frame.

    Args:
        threshold: a frame with at least this probability starts or continues speech.
        negative_threshold: a frame below it may end speech; ``None`` for
            ``max(threshold - 0.15, 0.01)``.
        min_speech_ms: segments that are not longer than this are dropped.
        min_silence_ms: silence that ends a segment.
        speech_pad_ms: added to both ends of a segment; neighbours share a shorter gap.
        max_segment_ms: longer segments are cut into pieces of this length; ``None`` for never.
        sample_rate_hz: 16000 or 8000.
        round_to_ms: floor starts and ends to whole milliseconds.

    Raises:
        ConfigError: a parameter is out of range.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        negative_threshold: float | None = None,
        min_speech_ms: float = 250,
        min_silence_ms: float = 100,
        speech_pad_ms: float = 30,
        max_segment_ms: float | None = 30000,
        sample_rate_hz: int = 16000,
        round_to_ms: bool = True,
    ) -> None:
        super().__init__()
        if negative_threshold is None:
            negative_threshold = max(threshold - 0.15, 0.01)
        if sample_rate_hz not in FRAME_SAMPLES:
            raise ConfigError(
                f"{sample_rate_hz} Hz is not supported",
                where="sample_rate_hz",
                remedy="use 16000 or 8000",
            )
        _need_threshold(threshold, negative_threshold)
        _need_duration("min_speech_ms", min_speech_ms, 0)
        _need_duration("min_silence_ms", min_silence_ms, 0)
        _need_duration("speech_pad_ms", speech_pad_ms, 0)
        if max_segment_ms is not None:
            _need_duration("max_segment_ms", max_segment_ms, 1)
        self.threshold = _float32_at_least(threshold)
        self.negative_threshold = _float32_at_least(negative_threshold)
        self.sample_rate_hz = sample_rate_hz
        self.frame_samples = FRAME_SAMPLES[sample_rate_hz]
        self.round_to_ms = round_to_ms
        self.samples_per_ms = sample_rate_hz // 1000
        pad = sample_rate_hz * speech_pad_ms / 1000
        # Upstream works with floats and truncates at the end; on integers that is:
        self.min_speech_samples = math.floor(sample_rate_hz * min_speech_ms / 1000)
        self.min_silence_frames = math.ceil(
            sample_rate_hz * min_silence_ms / 1000 / self.frame_samples
        )
        self.pad_before = math.ceil(pad)
        self.pad_after = math.floor(pad)
        self.both_pads = math.ceil(2 * pad)
        self.max_segment_samples = (
            None if max_segment_ms is None else int(max_segment_ms) * self.samples_per_ms
        )

    @property
    def granularity(self) -> int:
        """Samples that divide every start and end: those of one millisecond, or 1."""
        return self.samples_per_ms if self.round_to_ms else 1

    def forward(self, speech_probs: Tensor, num_samples: Tensor | int) -> Tensor:
        """Return the segments in order.

        Args:
            speech_probs: ``[F]`` float, F >= 0.
            num_samples: length of the recording in samples, ``[]`` int64 or an integer.

        Returns:
            ``[S, 2]`` int64, start and end (exclusive) in samples, S >= 0.
        """
        if not isinstance(num_samples, Tensor):
            num_samples = torch.full((), num_samples, dtype=torch.int64, device=speech_probs.device)
        starts, ends = self._speech(speech_probs, num_samples)
        starts, ends = self._padded(starts, ends, num_samples)
        if self.round_to_ms:
            starts = starts // self.samples_per_ms * self.samples_per_ms
            ends = ends // self.samples_per_ms * self.samples_per_ms
        segments = torch.stack([starts, ends], dim=1)
        if self.max_segment_samples is None:
            return segments
        longest = speech_probs.shape[0] * self.frame_samples
        return _split(segments, self.max_segment_samples, longest)

    def _speech(self, probs: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        hi = probs >= self.threshold
        lo = probs < self.negative_threshold
        hi_seen = hi.to(torch.int64).cumsum(0)
        lo_seen = lo.to(torch.int64).cumsum(0)
        # One entry behind the last stands for "there is no further one".
        num_frames = probs.shape[0]
        hi_at = _positions(hi, num_frames)
        lo_at = _positions(lo, num_frames)
        next_hi = hi_at.index_select(0, hi_seen)
        first_lo = lo_at.index_select(0, lo_seen)
        lo_total = torch.cat([lo_seen.new_zeros(1), lo_seen])
        last_lo = lo_at.index_select(0, (lo_total.index_select(0, next_hi) - 1).clamp(min=0))
        ended = (first_lo < next_hi) & (last_lo - first_lo >= self.min_silence_frames)
        closes = hi & (ended | (next_hi == num_frames))

        closing = closes.nonzero().squeeze(1)
        last_of_segment = hi_seen.index_select(0, closing)
        first_of_segment = torch.cat([last_of_segment.new_zeros(1), last_of_segment])[:-1]
        starts = hi_at.index_select(0, first_of_segment) * self.frame_samples
        ends = torch.where(
            ended.index_select(0, closing),
            first_lo.index_select(0, closing) * self.frame_samples,
            num_samples,
        )
        kept = (ends - starts > self.min_speech_samples).nonzero().squeeze(1)
        return starts.index_select(0, kept), ends.index_select(0, kept)

    def _padded(self, starts: Tensor, ends: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        # The neighbours of the first and last segment are endlessly far away.
        far = torch.full((1,), 1 << 60, dtype=torch.int64, device=starts.device)
        gap_before = starts - torch.cat([-far, ends])[:-1]
        gap_after = torch.cat([starts, far])[1:] - ends
        shared_before = gap_before < self.both_pads
        shared_after = gap_after < self.both_pads
        half_before = gap_before // 2
        half_after = gap_after // 2
        padded_starts = (starts - torch.where(shared_before, half_before, self.pad_before)).clamp(
            min=0
        )
        padded_ends = torch.where(
            shared_after, ends + half_after, torch.minimum(ends + self.pad_after, num_samples)
        )
        return padded_starts, padded_ends


def _split(segments: Tensor, limit: int, longest: int) -> Tensor:
    most = data_dependent(longest // limit + 1, like=segments, minimum=1)
    pieces = torch.arange(most, device=segments.device)
    starts, ends = segments[:, :1], segments[:, 1:]
    # Piece k exists while something is left behind k * limit; piece 0 always does.
    exists = (pieces * limit < ends - starts) | (pieces == 0)
    row, piece = exists.nonzero().unbind(1)
    first = starts.squeeze(1).index_select(0, row) + piece * limit
    last = ends.squeeze(1).index_select(0, row)
    return torch.stack([first, torch.minimum(first + limit, last)], dim=1)


def _positions(mask: Tensor, end: int) -> Tensor:
    behind = torch.full((1,), end, dtype=torch.int64, device=mask.device)
    return torch.cat([mask.nonzero().squeeze(1), behind])


def _float32_at_least(value: float) -> float:
    """Return the smallest float32 that is not below ``value``.

    Upstream compares float32 probabilities with a Python float in double precision; comparing
    with this float32 gives the same answer for every probability.
    """
    rounded = np.float32(value)
    if float(rounded) < value:
        rounded = np.nextafter(rounded, np.float32(np.inf))
    return float(rounded)


def _need_threshold(threshold: float, negative: float) -> None:
    if not 0 < threshold <= 1:
        raise ConfigError(
            f"{threshold} is no threshold", where="threshold", remedy="use 0 < threshold <= 1"
        )
    if not 0 < negative <= threshold:
        raise ConfigError(
            f"{negative} is not in (0, threshold = {threshold}]",
            where="negative_threshold",
            remedy="use a positive number that is not above the threshold",
        )


def _need_duration(name: str, milliseconds: float, minimum: float) -> None:
    if not minimum <= milliseconds < math.inf:
        raise ConfigError(
            f"{milliseconds} ms is no duration here",
            where=name,
            remedy=f"use a number of at least {minimum}",
        )
