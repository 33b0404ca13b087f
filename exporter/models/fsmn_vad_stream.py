"""FSMN-VAD on a stream: the front end keeps what the next chunk needs, and so does the network.

A stack of five mel frames stands around every frame (LFR 5/1), the outermost frame repeated at
both ends of a recording, so a score needs 560 samples behind its own 10 ms. A stream keeps
the samples from two frames before the next score on, and computes those frames again:

    samples   |-- frame k-2 --|
                   |-- k-1 ---|          steps = k: scores given so far; below 2 the start of
                        |--- k ---|      the recording is still to be repeated

Source: FunASR's ``WavFrontendOnline`` (``funasr/frontends/wav_frontend.py``) does the same outside
of the graph, with its lists of frames and samples in a dict.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from exporter.core.tensors import Axis, TensorSpec
from exporter.speech.cmvn import Cmvn
from exporter.speech.fbank import KaldiFbank
from exporter.speech.sizes import at_least

MORE, END = 0, 1


class FsmnScores(nn.Module):
    """Features to scores, on an upstream ``FSMN``.

    Args:
        encoder: a ``FSMN``; it keeps its name, so that keys of checkpoints are upstream's.
        sil_pdf_ids: states that are silence.
    """

    def __init__(self, encoder: nn.Module, sil_pdf_ids: list[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("silence", torch.tensor(sil_pdf_ids), persistent=False)

    def forward(self, features: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """Score a batch of whole recordings.

        Args:
            features: ``[R, T, input_dim]`` float32.
            counts: ``[R]`` int64, frames in use. What lies behind them reaches no frame in use.

        Returns:
            ``scores`` [R, T, output_dim], ``speech_probs`` [R, T], ``score_lengths`` [R].
        """
        scores = self.encoder(features)
        return {
            "scores": scores,
            "speech_probs": self.speech(scores),
            # Not the input itself: a graph must not hand an input through.
            "score_lengths": counts.clamp(min=0, max=features.shape[1]),
        }

    def chunk(self, features: Tensor, caches: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        """Score the next frames of one recording.

        Args:
            features: ``[1, T, input_dim]`` float32, T >= 1.
            caches: per layer ``[1, proj_dim, cache_frames, 1]``.

        Returns:
            scores ``[1, T, output_dim]``; the caches behind the last frame.
        """
        states = {f"cache_layer_{layer}": cache for layer, cache in enumerate(caches)}
        # Upstream replaces the entries of the dict and writes to none of its tensors.
        scores = self.encoder(features, states)
        return scores, list(states.values())

    def speech(self, scores: Tensor) -> Tensor:
        """Probability of speech ``[...]`` from scores ``[..., output_dim]``."""
        return 1.0 - scores.index_select(-1, self.get_buffer("silence")).sum(-1)


class FsmnVadStream(nn.Module):
    """A waveform, or the next chunk of one, to scores.

    Args:
        fbank: the mel frames.
        cmvn: of stacked frames.
        model: features to scores.
        lfr_m: frames in a stack, odd.
    """

    def __init__(self, fbank: KaldiFbank, cmvn: Cmvn, model: FsmnScores, lfr_m: int) -> None:
        super().__init__()
        self.fbank = fbank
        self.cmvn = cmvn
        self.model = model
        self.reach = lfr_m // 2
        self.register_buffer("offset", torch.arange(lfr_m), persistent=False)

    def forward(
        self, waveform: Tensor, final: Tensor, samples: Tensor, steps: Tensor, *caches: Tensor
    ) -> dict[str, Tensor]:
        """Score what can be scored, and say what the next chunk starts from.

        Args:
            waveform: ``[N]`` float32 in [-1, 1].
            final: ``[]`` int64, 1 when nothing follows: the last frame is then repeated, and the
                state that is returned means nothing.
            samples: ``[K]`` float32, what the chunk before kept; K = 0 before the first.
            steps: ``[]`` int64, scores given so far.
            caches: per layer ``[1, proj_dim, cache_frames, 1]`` float32, zeros before the first.

        Returns:
            ``scores`` [T, output_dim] and ``speech_probs`` [T], T >= 0; ``next_samples``,
            ``next_steps``, ``next_cache_0`` and so on.
        """
        whole = torch.cat([samples, waveform])
        length = torch.full((1,), whole.shape[0], dtype=torch.int64, device=whole.device)
        frames, frame_counts = self.fbank(whole.unsqueeze(0), length)
        available = frame_counts[0]
        repeated = (self.reach - steps).clamp(min=0)
        ready = available + repeated + self.reach * final - 2 * self.reach
        ready = torch.where(available > 0, ready.clamp(min=0), 0)
        count: Any = ready.item()
        torch._check(count >= 0)
        # A convolution needs a frame: without a score one is computed and cut off again.
        rows = at_least(count, 1)
        place = torch.arange(rows, device=whole.device).unsqueeze(1) + self.get_buffer("offset")
        place = torch.minimum((place - repeated).clamp(min=0), (available - 1).clamp(min=0))
        stacks = frames[0].index_select(0, place.reshape(-1)).reshape(1, rows, -1)
        used = torch.full((1,), rows, dtype=torch.int64, device=whole.device)
        scores, after = self.model.chunk(self.cmvn(stacks, used), caches)
        any_score = ready > 0
        kept: Any = ((ready - repeated).clamp(min=0) * self.fbank.shift_samples).item()
        torch._check(kept >= 0)
        torch._check(kept <= whole.shape[0])
        return {
            "scores": scores[0, :count],
            "speech_probs": self.model.speech(scores)[0, :count],
            "next_samples": whole.narrow(0, kept, whole.shape[0] - kept),
            "next_steps": steps + ready,
            **{
                f"next_cache_{layer}": torch.where(any_score, new, old)
                for layer, (new, old) in enumerate(zip(after, caches, strict=True))
            },
        }


def stream_inputs(
    cache: tuple[int, ...], layers: int, sample_rate_hz: int
) -> tuple[TensorSpec, ...]:
    """Specs of a waveform, and of what a stream hands over.

    Args:
        cache: shape of a layer's cache.
        layers: how many there are.
        sample_rate_hz: of the waveform.
    """
    kept, unit = Axis(name="num_kept", minimum=0), f"samples at {sample_rate_hz} Hz"
    samples = Axis(name="num_samples", minimum=1)
    before = f"{unit} that the chunk before kept"
    return (
        TensorSpec.of("waveform", "float32", samples, unit=unit),
        TensorSpec.of("final", "int64", choices={"more_follows": MORE, "end": END}),
        TensorSpec.of("samples", "float32", kept, unit=before, initial=0.0),
        TensorSpec.of("steps", "int64", unit="scores given so far", initial=0.0),
        *(_memory(f"cache_{layer}", cache, initial=0.0) for layer in range(layers)),
    )


def stream_outputs(cache: tuple[int, ...], layers: int, states: int) -> tuple[TensorSpec, ...]:
    """Specs of scores, and of what the next chunk takes."""
    steps, kept = Axis(name="num_scores", minimum=0), Axis(name="num_kept_next", minimum=0)
    return (
        TensorSpec.of("scores", "float32", steps, states),
        TensorSpec.of("speech_probs", "float32", steps, unit="probability per 10 ms"),
        TensorSpec.of("next_samples", "float32", kept),
        TensorSpec.of("next_steps", "int64", discrete=True),
        *(_memory(f"next_cache_{layer}", cache) for layer in range(layers)),
    )


def _memory(name: str, shape: tuple[int, ...], **more: Any) -> TensorSpec:
    unit = "memory of the layer, oldest first"
    return TensorSpec.of(name, "float32", *shape, unit=unit, **more)


def stream_example(cache: tuple[int, ...], layers: int) -> dict[str, Tensor]:
    """Values to trace with: a chunk in the middle of a stream."""
    noise = torch.Generator().manual_seed(0)
    return {
        "waveform": 0.1 * torch.randn(8000, generator=noise),
        "final": torch.tensor(MORE),
        "samples": 0.1 * torch.randn(640, generator=noise),
        "steps": torch.tensor(7),
        **{f"cache_{layer}": torch.randn(cache, generator=noise) for layer in range(layers)},
    }
