"""A streaming encoder in the manner of Zipformer: caches in lists, windows that overlap.

Frames of 10 ms are halved by a convolution without padding, which needs three frames of which two
are ahead. Two layers of attention over what was and what is in the chunk, each followed by a causal
convolution; the second one runs at half the rate and is brought back.

    forward         the whole, attention masked to what its chunk and the left context may see
    forward_chunk   one chunk, with a list of caches
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """One head over keys and values that are given."""

    def __init__(self, width: int):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
        """``x [B, T, D]``, keys and values ``[B, S, D]``, allowed ``[T, S]`` or ``[B, T, S]``."""
        scores = self.query(x) @ keys.transpose(1, 2) / math.sqrt(x.shape[-1])
        scores = scores.masked_fill(~allowed, -1e30)
        return self.out(scores.softmax(-1) @ values)


class Layer(nn.Module):
    """Attention and a causal convolution, each added to what came."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.kernel = kernel
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width)
        self.convolution_norm = nn.LayerNorm(width)
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width)
        self.pointwise = nn.Linear(width, width)

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, behind: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The chunk, and all keys, values and inputs of the convolution with what was before."""
        normed = self.attention_norm(x)
        keys = torch.cat([keys, self.attention.key(normed)], dim=1)
        values = torch.cat([values, self.attention.value(normed)], dim=1)
        x = x + self.attention(normed, keys, values, allowed)
        held = torch.cat([behind, self.convolution_norm(x).transpose(1, 2)], dim=2)
        moved = self.depthwise(held).transpose(1, 2)
        return x + torch.tanh(self.pointwise(moved)), keys, values, held


class Encoder(nn.Module):
    """Args: chunk and left: in frames of the first layer, 20 ms each; even numbers."""

    def __init__(self, mels: int = 8, width: int = 12, chunk: int = 4, left: int = 8):
        super().__init__()
        self.chunk, self.left, self.width, self.kernel = chunk, left, width, 3
        self.embed = nn.Conv1d(mels, width, 3, stride=2)
        self.layers = nn.ModuleList([Layer(width, self.kernel), Layer(width, self.kernel)])
        self.down = nn.Linear(2 * width, width)
        self.up = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, 6)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, T, mels]`` of the whole to ``[B, T', 6]``."""
        x = self.embed(features.transpose(1, 2)).transpose(1, 2)
        x = x[:, : x.shape[1] // self.chunk * self.chunk]
        empty = x.new_zeros(x.shape[0], 0, self.width)
        behind = x.new_zeros(x.shape[0], self.width, self.kernel - 1)
        allowed = self._allowed(x.shape[1], self.chunk, self.left)
        x, *_ = self.layers[0](x, empty, empty, behind, allowed)
        slow = self.down(x.reshape(x.shape[0], -1, 2 * self.width))
        allowed = self._allowed(slow.shape[1], self.chunk // 2, self.left // 2)
        slow, *_ = self.layers[1](slow, empty, empty, behind, allowed)
        return self.out(x + self.up(slow).reshape(x.shape))

    @staticmethod
    def _allowed(frames: int, chunk: int, left: int) -> Tensor:
        at = torch.arange(frames)
        begin = at // chunk * chunk
        return (at[None] < (begin + chunk)[:, None]) & (at[None] >= (begin - left)[:, None])

    def forward_chunk(
        self, features: Tensor, seen: Tensor, caches: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """``[B, 2 chunk + 1, mels]``; ``seen [B]``: frames before it; caches: keys, values and
        what is behind the convolution, of each layer."""
        x = self.embed(features.transpose(1, 2)).transpose(1, 2)
        following = []
        allowed = self._known(seen, self.left, self.chunk)
        x, *held = self.layers[0](x, *caches[:3], allowed)
        following += self._kept(held, self.left)
        slow = self.down(x.reshape(x.shape[0], -1, 2 * self.width))
        allowed = self._known(seen // 2, self.left // 2, self.chunk // 2)
        slow, *held = self.layers[1](slow, *caches[3:], allowed)
        following += self._kept(held, self.left // 2)
        y = self.out(x + self.up(slow).reshape(x.shape))
        return y, seen + self.chunk, following

    @staticmethod
    def _known(seen: Tensor, left: int, chunk: int) -> Tensor:
        """What of the cache was ever filled, and all of the chunk: ``[B, chunk, left + chunk]``."""
        at = torch.arange(left + chunk)
        return (at[None] >= (left - seen)[:, None])[:, None].expand(-1, chunk, -1)

    def _kept(self, held: list[Tensor], left: int) -> list[Tensor]:
        keys, values, behind = held
        return [keys[:, -left:], values[:, -left:], behind[:, :, -(self.kernel - 1) :]]
