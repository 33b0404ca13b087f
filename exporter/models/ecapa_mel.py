"""SpeechBrain's MelSpectrogramEncoder: raw waveforms to speaker embeddings, in one graph.

    waveform [batch, num_samples], waveform_lengths [batch]
        -> log mel (exporter/speech/mel.py)
        -> speechbrain.processing.features.InputNormalization(sentence, std_norm=False)
        -> layers of speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN (ecapa_layers.py)
        -> embedding [batch, 192]

20,767,552 parameters at the size of ``speechbrain/tts-ecapa-voxceleb``. Upstream normalises with
the lengths and then embeds without them; here they reach every layer, see ``docs/findings.md``.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field, Strict, model_validator
from torch import Tensor, nn

from exporter.config import Pipeline
from exporter.config.section import Section
from exporter.core.tensors import Axis, TensorSpec
from exporter.models.built import Built
from exporter.models.checkpoint_speechbrain import EMBEDDING, NETWORK, check_hyperparams
from exporter.models.ecapa_layers import EcapaEmbedding
from exporter.models.settings import MOST_WIDTH, read_settings
from exporter.models.upstream import upstream_package
from exporter.models.weights import (
    describe_weights,
    load_strictly,
    read_model_pt,
    seed_module,
    weights_of,
)
from exporter.speech.mel import MelSpectrogram

SHORTEST = 1024
"""Samples that upstream needs: below, its reflections are longer than the recording. A shorter one
may be padded to this and given its own length."""
Many = Annotated[
    tuple[Annotated[int, Field(ge=1, le=MOST_WIDTH)], ...], Field(max_length=100), Strict(False)
]


class Settings(Section):
    """``model.settings``; the defaults are the published size. Names are SpeechBrain's."""

    n_mel_channels: int = Field(default=80, ge=1, le=MOST_WIDTH)
    n_fft: int = Field(default=1024, ge=2, le=MOST_WIDTH)
    win_length: int = Field(default=1024, ge=1, le=MOST_WIDTH)
    hop_length: int = Field(default=256, ge=1, le=MOST_WIDTH)
    mel_fmin: float = Field(default=0.0, ge=0)
    mel_fmax: float = Field(default=8000.0, gt=0)
    channels: Many = Field(default=(1024, 1024, 1024, 1024, 3072), min_length=3)
    kernel_sizes: Many = (5, 3, 3, 3, 1)
    dilations: Many = (1, 2, 3, 4, 1)
    groups: Many = (1, 1, 1, 1, 1)
    attention_channels: int = Field(default=128, ge=1, le=MOST_WIDTH)
    res2net_scale: int = Field(default=8, ge=2, le=MOST_WIDTH)
    se_channels: int = Field(default=128, ge=1, le=MOST_WIDTH)
    lin_neurons: int = Field(default=192, ge=1, le=MOST_WIDTH)

    @model_validator(mode="after")
    def _layers_fit(self) -> Settings:
        for name in ("kernel_sizes", "dilations", "groups"):
            if len(getattr(self, name)) != len(self.channels):
                raise ValueError(f"{name} and channels name another number of layers")
        if any(size % 2 == 0 for size in self.kernel_sizes):
            raise ValueError("kernel_sizes must be odd")
        if any(width % self.res2net_scale for width in self.channels[1:-1]):
            raise ValueError("res2net_scale must divide the channels of every inner layer")
        return self


class WaveformEmbedding(nn.Module):
    """Waveforms to embeddings.

    Args:
        mel: waveform to log mel.
        normalizer: upstream's ``InputNormalization``, per sentence.
        embedding_model: log mel to embedding.
    """

    def __init__(
        self, mel: MelSpectrogram, normalizer: nn.Module, embedding_model: EcapaEmbedding
    ) -> None:
        super().__init__()
        self.mel = mel
        self.normalizer = normalizer
        self.embedding_model = embedding_model

    def forward(self, waveform: Tensor, waveform_lengths: Tensor) -> dict[str, Tensor]:
        """Embed a batch.

        Args:
            waveform: ``[B, N]`` float32 in [-1, 1]; what lies behind a row's length is not read.
            waveform_lengths: ``[B]`` int64 samples; taken to be in [1, N].

        Returns:
            ``embedding`` [B, lin_neurons]; ``log_mel`` [B, n_mel_channels, T] before it is
            normalised, and its ``frames`` [B].
        """
        longest = torch.full_like(waveform_lengths, waveform.shape[1])
        lengths = torch.minimum(waveform_lengths.clamp(min=1), longest)
        log_mel, frames = self.mel(waveform, lengths)
        features = log_mel.transpose(1, 2)
        # Upstream takes shares of the longest row. Half a frame less keeps their product on the
        # right side of a whole number, whichever way float32 rounds it.
        shares = (frames.to(features.dtype) - 0.5) / features.shape[1]
        embedding = self.embedding_model(self.normalizer(features, shares), frames)
        return {"embedding": embedding, "log_mel": log_mel, "frames": frames}


def build(pipeline: Pipeline) -> Built:
    """Build the encoder as a pipeline describes it.

    Raises:
        ConfigError: a setting is wrong, or contradicts the checkpoint.
        WeightsError: the checkpoint is missing or does not fit.
        MissingPackageError: speechbrain is not installed.
    """
    settings = read_settings(Settings, pipeline)
    source = weights_of(pipeline)
    normalizer, upstream = upstream_modules(settings)
    if source.folder is None:
        seed_module(upstream, pipeline.model.seed)
    else:
        check_hyperparams(source.folder, settings.model_dump(), pipeline)
        file = source.folder / EMBEDDING
        load_strictly(upstream, read_model_pt(file), where=str(file))
    mel = MelSpectrogram(
        sample_rate_hz=pipeline.sample_rate_hz,
        n_fft=settings.n_fft,
        win_length=settings.win_length,
        hop_length=settings.hop_length,
        n_mels=settings.n_mel_channels,
        f_min_hz=settings.mel_fmin,
        f_max_hz=settings.mel_fmax,
    )
    module = WaveformEmbedding(mel, normalizer, EcapaEmbedding(upstream))
    module.eval().requires_grad_(False)
    return Built(
        module=module,
        takes="tensors",
        inputs=_inputs(pipeline.sample_rate_hz),
        outputs=_outputs(settings),
        weights=describe_weights(upstream, source),
        example=_example(),
    )


def upstream_modules(settings: Settings) -> tuple[Any, Any]:
    """Return the normaliser, and ``ECAPA_TDNN`` on the meta device.

    Raises:
        MissingPackageError: speechbrain, or what it needs, is not installed.
    """
    with upstream_package("ecapa_mel", "speechbrain", "scripts/install-upstream speechbrain"):
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
        from speechbrain.processing.features import InputNormalization
    with torch.device("meta"):
        sizes = settings.model_dump(mode="json", include=set(NETWORK))  # lists, not tuples
        network = ECAPA_TDNN(input_size=settings.n_mel_channels, **sizes)
    return InputNormalization(norm_type="sentence", std_norm=False), network


def _inputs(sample_rate_hz: int) -> tuple[TensorSpec, ...]:
    batch = Axis(name="batch", minimum=1)
    samples = Axis(name="num_samples", minimum=SHORTEST)
    unit = f"samples at {sample_rate_hz} Hz"
    return (
        TensorSpec.of("waveform", "float32", batch, samples, unit=unit),
        TensorSpec.of("waveform_lengths", "int64", batch, unit=unit),
    )


def _outputs(settings: Settings) -> tuple[TensorSpec, ...]:
    batch, frames = Axis(name="batch", minimum=1), Axis(name="num_frames", minimum=1)
    unit = f"natural logarithm, a frame per {settings.hop_length} samples"
    return (
        TensorSpec.of("embedding", "float32", batch, settings.lin_neurons),
        TensorSpec.of("log_mel", "float32", batch, settings.n_mel_channels, frames, unit=unit),
        TensorSpec.of("frames", "int64", batch, discrete=True),
    )


def _example() -> dict[str, Tensor]:
    noise = torch.randn(2, 12_345, generator=torch.Generator().manual_seed(0))
    return {"waveform": 0.1 * noise, "waveform_lengths": torch.tensor([12_345, 8_000])}
