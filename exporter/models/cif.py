"""Continuous integrate-and-fire: frames to one embedding per token, without a loop over frames.

Every frame has a weight alpha in [0, 1]. Weights are summed from left to right, and each time the
sum passes a whole number a token fires; the frame at which it does is shared by two tokens:

    alpha      .4   .4   .4   .5   .6   | .45 behind the last frame, the tail
    sum        .4   .8  1.2  1.7  2.3   2.75
    token 0    .4   .4   .2
    token 1              .2   .5   .3
    token 2                        .3   .45    not full: no token

How full token k is after frame t is ``clamp(sum[t] - k, 0, 1)``, so its share of frame t is the
increase of that, and all embeddings are one matrix product. Nothing here jumps when a sum comes
close to a whole number, except the number of tokens. Dong & Xu, ICASSP 2020 (arXiv 1905.11235);
Gao et al., Interspeech 2022 (arXiv 2206.08317).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class CifPredictor(nn.Module):
    """Weights, number of tokens and shares, on the layers of FunASR's ``CifPredictorV2``.

    They keep their names. Upstream's forward reads values back into Python, and lets its
    convolution and its tail read the frame behind the last one, which holds zeros for the
    longest utterance of a batch and something else for all others; here it is always zeros.

    Args:
        upstream: a ``CifPredictorV2`` with threshold 1 and a tail.
    """

    def __init__(self, upstream: Any) -> None:
        super().__init__()
        self.pad: nn.Module = upstream.pad
        self.cif_conv1d: nn.Module = upstream.cif_conv1d
        self.cif_output: nn.Module = upstream.cif_output
        self.smooth_factor = float(upstream.smooth_factor)
        self.noise_threshold = float(upstream.noise_threshold)
        self.tail_threshold = float(upstream.tail_threshold)

    def forward(self, hidden: Tensor, counts: Tensor) -> Tensor:
        """Return the weights of every row, its tail included.

        Args:
            hidden: ``[R, T, D]`` float, zero from each row's count on.
            counts: ``[R]`` int64, frames in use; may be 0.

        Returns:
            ``[R, T + 1]`` float in [0, 1]: frames, then the tail at place ``count``, then zeros.
        """
        weights = torch.relu(self.cif_conv1d(self.pad(hidden.transpose(1, 2))))
        alphas = torch.sigmoid(self.cif_output(weights.transpose(1, 2))).squeeze(2)
        alphas = torch.relu(alphas * self.smooth_factor - self.noise_threshold)
        frames, ends = nn.functional.pad(alphas, (0, 1)), counts.unsqueeze(1)
        place = torch.arange(hidden.shape[1] + 1, device=hidden.device)
        tail = torch.where(place == ends, self.tail_threshold, torch.zeros_like(frames))
        return torch.where(place < ends, frames, tail)


def fire(hidden: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """Integrate frames into tokens.

    Args:
        hidden: ``[R, T, D]`` float, frames.
        alphas: ``[R, T + 1]`` float in [0, 1]: a weight for every frame, and one for a frame of
            zeros behind the last, which completes a token with nothing.

    Returns:
        embeddings ``[R, N, D]``, zero behind each row's tokens; how many fired, ``[R]`` int64. N
        is the largest of them, but at least 1: layers behind cannot run on no token at all.
    """
    # float64, and added in the order of the frames: zeros behind a row change nothing in it.
    sums = alphas.to(torch.float64).cumsum(1)
    lengths = count_tokens(sums, alphas.dtype)
    num_tokens = cast(int, lengths.max().clamp(min=1).item())
    torch._check(num_tokens >= 1)
    shares = token_shares(sums, num_tokens)[:, :, :-1].to(hidden.dtype)
    fired = torch.arange(num_tokens, device=hidden.device) < lengths.unsqueeze(1)
    return torch.matmul(shares * fired.unsqueeze(2).to(hidden.dtype), hidden), lengths


def count_tokens(sums: Tensor, dtype: torch.dtype) -> Tensor:
    """Return how many tokens fire in each row.

    Upstream rounds its float64 sums to the weights' precision before it looks for whole numbers;
    a sum that is one float32 step short of a whole number may fire only because of that.

    Args:
        sums: ``[R, T]`` float64 from weights in [0, 1], so that a row has at most T tokens.
        dtype: of the weights.

    Returns:
        ``[R]`` int64.
    """
    # Comparisons, not a conversion to integers: NaN then fires nothing, and how far each one was
    # from going the other way can be read off.
    whole = torch.arange(1, sums.shape[1] + 1, dtype=dtype, device=sums.device)
    return (sums[:, -1:].to(dtype) >= whole).sum(1)


def token_shares(sums: Tensor, num_tokens: int) -> Tensor:
    """Return how much of every frame belongs to every token.

    Args:
        sums: ``[R, T]`` float64, never falling.
        num_tokens: N.

    Returns:
        ``[R, N, T]`` float64; each row of a token that fires sums to 1.
    """
    token = torch.arange(num_tokens, dtype=sums.dtype, device=sums.device).unsqueeze(1)
    full = (sums.unsqueeze(1) - token).clamp(0.0, 1.0)
    return full - nn.functional.pad(full, (1, 0))[:, :, :-1]
