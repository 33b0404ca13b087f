"""Silero VAD on a stream, written apart from the model that is shipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.speech.vad import HIDDEN, SileroVad


class SileroVadStream(nn.Module):
    """The same network on consecutive chunks of a stream, state in and state out.

    Args:
        vad: the offline form, whose network is shared.
    """

    def __init__(self, vad: SileroVad) -> None:
        super().__init__()
        self.network = vad.network
        self.sample_rate_hz = vad.sample_rate_hz
        self.frame_samples = vad.frame_samples

    def initial_state(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the state before the first sample: context ``[context_samples]``, h, c."""
        context = torch.zeros(self.network.context_samples)
        return context, torch.zeros(1, 1, HIDDEN), torch.zeros(1, 1, HIDDEN)

    def forward(
        self, frames: Tensor, context: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the probabilities of the next frames and the state after them.

        Args:
            frames: ``[F, frame_samples]`` float, F >= 1 whole frames.
            context: ``[context_samples]`` float, the samples before the first frame.
            h: ``[1, 1, 128]`` float.
            c: ``[1, 1, 128]`` float.

        Returns:
            probabilities ``[F]``, then context, h and c for the next call.
        """
        tails = frames[:, self.frame_samples - context.shape[0] :]
        before = torch.cat([context.unsqueeze(0), tails[:-1]])
        probabilities, h, c = self.network(frames, before, h, c)
        return probabilities, tails[-1], h, c
