"""Models of torchaudio, tiny, with random weights."""

from __future__ import annotations

from typing import Any

import torch
import torchaudio
from torch import Tensor, nn
from torchaudio import models, transforms
from torchaudio.models import wavlm_model
from torchaudio.models.rnnt import _Joiner, _Predictor

Conformer = models.Conformer
Emformer = models.Emformer
ConvTasNet = models.ConvTasNet
HDemucs = models.HDemucs
DeepSpeech = models.DeepSpeech
Wav2Letter = models.Wav2Letter
WaveRNN = models.WaveRNN
MelSpectrogram = transforms.MelSpectrogram
_WIDTH = 32


class Predictor(nn.Module):
    """RNN-T: what was said so far."""

    def __init__(self):
        super().__init__()
        self.inner = _Predictor(20, 16, 16, 2, 16, lstm_layer_norm=True)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Tokens ``[B, U]``."""
        return self.inner(tokens, lengths)[0]


class Joiner(nn.Module):
    """RNN-T: sound and text joined."""

    def __init__(self):
        super().__init__()
        self.inner = _Joiner(16, 12)

    def forward(
        self, source: Tensor, source_lengths: Tensor, target: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """Encodings ``[B, T, D]`` and ``[B, U, D]``."""
        return self.inner(source, source_lengths, target, target_lengths)[0]


class Tacotron2(nn.Module):
    """The encoder: embedding, convolutions and a packed LSTM."""

    def __init__(self, **settings: Any):
        super().__init__()
        whole = models.Tacotron2(**settings)
        self.embedding, self.encoder = whole.embedding, whole.encoder

    def forward(self, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """Tokens ``[B, T]``."""
        return self.encoder(self.embedding(tokens).transpose(1, 2), token_lengths)


def _wav2vec2(build: Any, **settings: Any) -> nn.Module:
    return build(
        extractor_mode="group_norm",
        extractor_conv_layer_config=[(16, 10, 5), (16, 8, 4)],
        extractor_conv_bias=False,
        encoder_embed_dim=_WIDTH,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=16,
        encoder_pos_conv_groups=2,
        encoder_num_layers=2,
        encoder_num_heads=4,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=48,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=False,
        encoder_layer_drop=0.0,
        aux_num_out=None,
        **settings,
    )


class Wav2Vec2(nn.Module):
    """wav2vec 2.0 of whole waveforms."""

    def __init__(self):
        super().__init__()
        self.inner = _wav2vec2(torchaudio.models.wav2vec2_model)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Waveforms ``[B, samples]``."""
        return self.inner(waveforms)[0]


class Wav2Vec2Lengths(Wav2Vec2):
    """wav2vec 2.0 of a padded batch."""

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Waveforms ``[B, samples]`` and how long each is."""
        features, counts = self.inner(waveforms, lengths)
        return features, counts


class WavLM(nn.Module):
    """WavLM as torchaudio has it."""

    def __init__(self):
        super().__init__()
        self.inner = _wav2vec2(wavlm_model, encoder_num_buckets=16, encoder_max_distance=40)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Waveforms ``[B, samples]``."""
        return self.inner(waveforms)[0]


class Squim(nn.Module):
    """Three scores of speech without a reference."""

    def __init__(self):
        super().__init__()
        self.inner = models.squim_objective_model(
            feat_dim=16, win_len=16, d_model=16, nhead=2, hidden_dim=8, num_blocks=1,
            rnn_type="LSTM", chunk_size=10, chunk_stride=5,
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Waveforms ``[B, samples]``."""
        return tuple(torch.atleast_1d(score) for score in self.inner(x))
