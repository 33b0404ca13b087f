"""VITS of transformers in the three parts that are deployed; the noise is an input, never drawn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import VitsConfig
from transformers.models.vits.modeling_vits import (
    VitsDurationPredictor,
    VitsHifiGan,
    VitsResidualCouplingBlock,
    VitsTextEncoder,
)


class Text(nn.Module):
    """Letters to the prior of each letter, and to how many frames it lasts.

    Args: config: of transformers. slower: factor of all durations.
    """

    def __init__(self, config: dict[str, Any], slower: float = 2.3):
        super().__init__()
        held = VitsConfig(**config)
        self.encoder = VitsTextEncoder(held)
        self.lasts = VitsDurationPredictor(held)
        self.slower = slower

    def forward(self, text: Tensor) -> dict[str, Tensor]:
        """Letters ``[B, T]`` to means and log deviations ``[B, T, D]`` and frames ``[B, T]``."""
        mask = torch.ones_like(text)[:, :, None].float()
        found = self.encoder(text, mask)
        hidden = found.last_hidden_state.transpose(1, 2)
        frames = torch.exp(self.lasts(hidden, mask.transpose(1, 2))) * self.slower
        return {
            "means": found.prior_means,
            "log_scales": found.prior_log_variances,
            "durations": torch.ceil(frames)[:, 0].long(),
        }


class Flow(nn.Module):
    """The prior of letters laid on frames, noise on it, and the flow backwards."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.flow = VitsResidualCouplingBlock(VitsConfig(**config))

    def forward(
        self,
        means: Tensor,
        log_scales: Tensor,
        durations: Tensor,
        noise: Tensor,
        noise_scale: Tensor,
    ) -> dict[str, Tensor]:
        """Prior ``[B, T, D]`` and durations ``[B, T]`` of letters, noise ``[B, D, frames]`` and its
        scale ``[1]``: latents ``[B, D, frames]``, zero behind ``lengths [B]``."""
        ends = durations.cumsum(1)[:, :, None]
        at = torch.arange(noise.shape[2])
        laid = ((at < ends) & (at >= ends - durations[:, :, None])).float()
        mask = (at < ends[:, -1]).float()[:, None]
        means = means.transpose(1, 2) @ laid
        scales = torch.exp(log_scales.transpose(1, 2) @ laid)
        latents = self.flow(means + noise * scales * noise_scale, mask, reverse=True)
        return {"latents": latents * mask, "lengths": ends[:, -1, 0].clamp(max=noise.shape[2])}


class Decoder(nn.Module):
    """Latents to sound, eight samples a frame."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.decoder = VitsHifiGan(VitsConfig(**config))

    def forward(self, latents: Tensor) -> Tensor:
        """``[B, D, frames]`` to ``[B, 8 frames]``."""
        return self.decoder(latents)[:, 0]
