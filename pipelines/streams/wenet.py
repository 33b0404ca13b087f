"""An encoder in the manner of WeNet's U2: trained with chunks, run in chunks of any size.

Frames of 10 ms are taken together by four in two convolutions without padding: a frame that comes
out reads seven, of which three are ahead. The cache of attention grows from nothing, the position
of a chunk is an input, and the causal convolution hands on its last frames.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Layer(nn.Module):
    """Attention with a cache that grows, and a causal convolution."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.convolution_norm = nn.LayerNorm(width)
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width)

    def forward(
        self, x: Tensor, allowed: Tensor | None, seen: Tensor, behind: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``x [B, T, D]``, ``seen [B, S, 2 D]``, ``behind [B, D, kernel - 1]``."""
        normed = self.norm(x)
        held = torch.cat([self.key(normed), self.value(normed)], dim=2)
        held = torch.cat([seen, held], dim=1)
        keys, values = held.chunk(2, dim=2)
        scores = self.query(normed) @ keys.transpose(1, 2) / math.sqrt(x.shape[-1])
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -1e30)
        x = x + self.out(scores.softmax(-1) @ values)
        moved = torch.cat([behind, self.convolution_norm(x).transpose(1, 2)], dim=2)
        x = x + torch.tanh(self.depthwise(moved)).transpose(1, 2)
        return x, held, moved[:, :, moved.shape[2] - behind.shape[2] :]


class Encoder(nn.Module):
    """Args: chunk: frames of 40 ms that ``forward`` lets see each other."""

    def __init__(self, mels: int = 8, width: int = 12, chunk: int = 4, kernel: int = 4):
        super().__init__()
        self.chunk, self.width, self.kernel = chunk, width, kernel
        self.first = nn.Conv1d(mels, width, 3, stride=2)
        self.second = nn.Conv1d(width, width, 3, stride=2)
        self.layers = nn.ModuleList([Layer(width, kernel), Layer(width, kernel)])
        self.out = nn.Linear(width, 6)

    def _embedded(self, features: Tensor, offset: Tensor) -> Tensor:
        x = torch.relu(self.first(features.transpose(1, 2)))
        x = torch.relu(self.second(x)).transpose(1, 2)
        at = (offset[:, None] + torch.arange(x.shape[1]))[:, :, None]
        rate = torch.exp(torch.arange(0, self.width, 2) * (-math.log(1e4) / self.width))
        return x + torch.stack([torch.sin(at * rate), torch.cos(at * rate)], -1).flatten(2)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, T, mels]`` of the whole; a frame sees all before it and its own chunk."""
        x = self._embedded(features, features.new_zeros(features.shape[0], dtype=torch.int64))
        at = torch.arange(x.shape[1])
        allowed = at[None] < ((at // self.chunk + 1) * self.chunk)[:, None]
        for layer in self.layers:
            x, *_ = layer(x, allowed, *self._nothing(x))
        return self.out(x)

    def _nothing(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.shape[0]
        behind = x.new_zeros(rows, self.width, self.kernel - 1)
        return x.new_zeros(rows, 0, 2 * self.width), behind

    def forward_chunk(
        self, features: Tensor, offset: Tensor, attention_cache: Tensor, convolution_cache: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``[B, T, mels]`` of one chunk; offset ``[B]`` in frames of 40 ms; caches
        ``[layers, B, S, 2 D]`` and ``[layers, B, D, kernel - 1]``."""
        x = self._embedded(features, offset)
        seen, behind = [], []
        for number, layer in enumerate(self.layers):
            x, held, moved = layer(x, None, attention_cache[number], convolution_cache[number])
            seen.append(held)
            behind.append(moved)
        return self.out(x), torch.stack(seen), torch.stack(behind)
