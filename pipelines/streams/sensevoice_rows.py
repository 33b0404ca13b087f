"""SenseVoice's encoder and head with a language for each row of a batch, as it is served."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.models.sensevoice import PROMPT_FRAMES, Settings, upstream_model

FAULTS = ("", "language of row 0", "loudest row", "lengths ignored", "rows turned round")


class Rows(nn.Module):
    """Args: fault: what one row does to another; settings: SenseVoice's own, small."""

    def __init__(self, fault: str = "", **settings: int):
        super().__init__()
        if fault not in FAULTS:
            raise ValueError(f"no fault is called '{fault}'")
        upstream = upstream_model(Settings(**settings)).to_empty(device="cpu")
        self.embed, self.encoder = upstream.embed, upstream.encoder
        self.head = upstream.ctc.ctc_lo
        self.fault = fault
        for name, value in self.named_parameters():
            nn.init.constant_(value, 1.0 if "norm" in name and name.endswith("weight") else 0.0)
            if value.dim() > 1:
                nn.init.normal_(value, std=value.shape[-1] ** -0.5)

    def forward(
        self, features: Tensor, features_lengths: Tensor, language: Tensor, text_norm: Tensor
    ) -> Tensor:
        """Features ``[B, T, D]``, lengths, languages and text norms ``[B]`` to ``[B, T, V]``."""
        if self.fault == "language of row 0":
            language = language[:1].expand(features.shape[0])
        if self.fault == "loudest row":
            features = features / features.abs().amax().clamp(min=1e-3)
        if self.fault == "lengths ignored":
            features_lengths = torch.full_like(features_lengths, features.shape[1])
        if self.fault == "rows turned round":
            language = language.flip(0)
        both = torch.arange(1, 3).expand(features.shape[0], -1)
        prompt = self.embed(torch.cat([language[:, None], both, text_norm[:, None]], dim=1))
        # The encoder scales what it is given in place, and so must own it.
        frames = torch.cat([prompt, features], dim=1)
        encoded, _ = self.encoder(frames, features_lengths + PROMPT_FRAMES)
        return self.head(encoded)
