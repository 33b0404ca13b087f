"""An RNN-T of torchaudio in the three parts that are deployed: encoder, predictor, joiner."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.models import RNNT
from torchaudio.models.rnnt import _Joiner, _Predictor, _Transcriber

WIDTH, SYMBOLS, MELS, STRIDE = 16, 20, 20, 2


class _Frames(nn.Module, _Transcriber):
    """Pairs of frames through two layers: torchaudio leaves the encoder to its caller."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(STRIDE * MELS, WIDTH), nn.Tanh(), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
        )

    def forward(self, input: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[B, T, mels]`` and how many frames count, to ``[B, T / 2, D]``."""
        paired = input.reshape(input.shape[0], input.shape[1] // STRIDE, STRIDE * MELS)
        return self.layers(paired), lengths // STRIDE

    def infer(self, input: Tensor, lengths: Tensor, states: Any) -> Any:
        raise NotImplementedError


def whole() -> RNNT:
    """The model of all parts; with one seed all are of the same weights."""
    predictor = _Predictor(
        SYMBOLS,
        WIDTH,
        symbol_embedding_dim=WIDTH,
        num_lstm_layers=1,
        lstm_hidden_dim=WIDTH,
        lstm_dropout=0.0,
    )
    model = RNNT(_Frames(), predictor, _Joiner(WIDTH, SYMBOLS)).eval()
    with torch.no_grad():
        # Random weights say one thing at every frame, or nothing: these say a few.
        for weight in model.parameters():
            weight *= 2.0
        for weight in model.predictor.parameters():
            weight *= 2.0
        model.joiner.linear.bias[SYMBOLS - 1] += 0.5
        model.joiner.linear.weight *= 8.0
        model.joiner.linear.bias[SYMBOLS - 1] += 8.0
    return model


class Encoder(nn.Module):
    """Features to frames."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = whole().transcriber

    def forward(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Features ``[1, T, mels]`` with T even, lengths ``[1]``."""
        encoded, counted = self.inner(features, lengths)
        return {"encoded": encoded, "encoded_lengths": counted}


class Predictor(nn.Module):
    """One token to what it lets expect; the LSTM's state comes in and goes out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = whole().predictor

    def forward(self, tokens: Tensor, state: list[Tensor]) -> dict[str, Any]:
        """Token ``[1, 1]``, hidden and cell state ``[1, D]``."""
        lengths = torch.ones(1, dtype=torch.int32)
        predicted, _, kept = self.inner(tokens, lengths, [state])
        return {"predicted": predicted, "next_state": kept[0]}


class Joiner(nn.Module):
    """A frame and what was predicted to scores of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = whole().joiner

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Frame ``[1, 1, D]``, predicted ``[1, 1, D]``."""
        one = torch.ones(1, dtype=torch.int32)
        return self.inner(source, one, target, one)[0]
