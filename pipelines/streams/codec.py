"""The decoder of a tiny DAC: convolutions that look both ways, for windows that overlap."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import DacConfig
from transformers.models.dac.modeling_dac import DacDecoder


class Decoder(nn.Module):
    """Latents to sound, eight samples a frame."""

    def __init__(self) -> None:
        super().__init__()
        config = DacConfig(
            encoder_hidden_size=4,
            downsampling_ratios=[2, 4],
            decoder_hidden_size=16,
            upsampling_ratios=[4, 2],
            hidden_size=8,
        )
        self.inner = DacDecoder(config)

    def forward(self, latents: Tensor) -> Tensor:
        """``[B, 8, T]`` to ``[B, 1, 8 T]``."""
        return self.inner(latents)
