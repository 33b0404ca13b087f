"""Models of SpeechBrain, tiny, with random weights."""

from __future__ import annotations

import contextlib
from typing import Any
from unittest.mock import patch

import torch
from speechbrain.lobes.features import Fbank as UpstreamFbank
from speechbrain.lobes.models import CRDNN as crdnn  # noqa: N811
from speechbrain.lobes.models.dual_path import SepformerWrapper
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoder as UpstreamConformer
from speechbrain.lobes.models.transformer.Transformer import TransformerEncoder as Upstream
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR as UpstreamASR
from speechbrain.lobes.models.Xvector import Xvector as UpstreamXvector
from speechbrain.nnet.attention import RelPosEncXL
from speechbrain.nnet.pooling import StatisticsPooling
from torch import Tensor, nn


def ECAPA() -> nn.Module:  # noqa: N802
    """ECAPA-TDNN, as it comes."""
    return ECAPA_TDNN(
        16, lin_neurons=12, channels=[16, 16, 16, 16, 48], attention_channels=8, res2net_scale=4,
        se_channels=8,
    )  # fmt: skip


class Xvector(nn.Module):
    """X-vectors: TDNN blocks and statistics.

    The pooling adds noise in evaluation, too, and no file draws the same: it is an input.
    """

    def __init__(self):
        super().__init__()
        self.inner = UpstreamXvector(
            in_channels=16,
            tdnn_blocks=3,
            tdnn_channels=[16, 16, 24],
            tdnn_kernel_sizes=[5, 3, 1],
            tdnn_dilations=[1, 2, 1],
            lin_neurons=12,
        )

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Features ``[B, T, 16]``, noise ``[B, 24]``."""
        with _drawn(noise):
            return self.inner(x)


class ConformerEncoder(nn.Module):
    """The encoder with relative positions, as recipes call it."""

    def __init__(self):
        super().__init__()
        self.inner = UpstreamConformer(2, 32, 48, 4, kernel_size=5)
        self.positions = RelPosEncXL(32)

    def forward(self, src: Tensor) -> Tensor:
        """Features ``[B, T, 32]``."""
        return self.inner(src, pos_embs=self.positions(src))[0]


class TransformerEncoder(nn.Module):
    """The plain encoder."""

    def __init__(self):
        super().__init__()
        self.inner = Upstream(num_layers=2, nhead=4, d_ffn=48, d_model=32)

    def forward(self, src: Tensor) -> Tensor:
        """Features ``[B, T, 32]``."""
        return self.inner(src)[0]


class TransformerASR(nn.Module):
    """The encoder of a whole recogniser, of a padded batch."""

    def __init__(self):
        super().__init__()
        self.inner = UpstreamASR(
            tgt_vocab=20, input_size=16, d_model=32, nhead=4, num_encoder_layers=2,
            num_decoder_layers=1, d_ffn=48,
        )  # fmt: skip

    def forward(self, src: Tensor, wav_len: Tensor) -> Tensor:
        """Features ``[B, T, 16]`` and the share of each row that is speech."""
        return self.inner.encode(src, wav_len)


def Sepformer() -> nn.Module:  # noqa: N802
    """SepFormer: encoder, dual-path transformer, decoder."""
    return SepformerWrapper(
        encoder_out_nchannels=16, masknet_chunksize=20, masknet_numlayers=1,
        intra_numlayers=1, inter_numlayers=1, intra_nhead=2, inter_nhead=2, intra_dffn=24,
        inter_dffn=24,
    )  # fmt: skip


def CRDNN() -> nn.Module:  # noqa: N802
    """Convolutions, recurrent layers, linear layers."""
    return crdnn.CRDNN(
        input_size=16, cnn_blocks=1, cnn_channels=(4,), rnn_layers=1, rnn_neurons=16, dnn_blocks=1,
        dnn_neurons=12,
    )  # fmt: skip


def Fbank() -> nn.Module:  # noqa: N802
    """Filterbank features from a waveform."""
    return UpstreamFbank(n_mels=16, n_fft=256, win_length=16)


class StatPool(nn.Module):
    """Mean and deviation over the frames that are there, and the noise that is added to it."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(16, 16)
        self.inner = StatisticsPooling()

    def forward(self, x: Tensor, lengths: Tensor, noise: Tensor) -> Tensor:
        """Features ``[B, T, 16]``, the share of each row that is speech, noise ``[B, 16]``."""
        with _drawn(noise):
            return self.inner(self.mix(x), lengths)


def _drawn(noise: Tensor) -> contextlib.AbstractContextManager[Any]:
    """What SpeechBrain's pooling draws while the block runs."""
    return patch.object(torch, "randn", lambda size, device=None: noise.clone())
