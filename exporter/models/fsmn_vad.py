"""FSMN-VAD: FunASR's own network, its front end in the graph, whole recordings and streams.

Network: ``funasr.models.fsmn_vad_streaming.encoder.FSMN``, 0.43 M parameters at its published size;
every frame of 10 ms gets a distribution over 248 states, and its speech probability is what the
silence states leave. Two graphs are made of it (``model.settings.streaming``):

    true    one recording or the next chunk of one, with everything that a stream hands over:
            waveform, final, samples, steps, cache_0 .. -> scores, speech_probs, next_samples, ..
    false   a batch of recordings and their lengths, through ``BatchedSpeechGraph``
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from exporter.config import Features, Pipeline
from exporter.config.section import Section
from exporter.core.errors import ConfigError
from exporter.core.tensors import Axis, TensorSpec
from exporter.models.built import Built
from exporter.models.checkpoint_funasr import CheckpointLayout, fill, merged
from exporter.models.fsmn_vad_stream import (
    FsmnScores,
    FsmnVadStream,
    stream_example,
    stream_inputs,
    stream_outputs,
)
from exporter.models.import_alone import import_alone
from exporter.models.settings import MOST_LAYERS, MOST_WIDTH, read_settings
from exporter.models.upstream import FUNASR, upstream_package
from exporter.models.weights import describe_weights, weights_of
from exporter.speech.cmvn import Cmvn, seeded_cmvn
from exporter.speech.fbank import KaldiFbank

LAYOUT = CheckpointLayout(
    kind="FsmnVADStreaming",
    sections={"encoder_conf": "", "model_conf": ""},
    fixed={"encoder_conf": {"use_softmax": True}},
    sizes={"input_size": ("encoder.in_linear1.linear.weight", 1)},
)


class Settings(Section):
    """``model.settings``; the defaults are the published size. Names are FunASR's."""

    streaming: bool = True
    input_dim: int = Field(default=400, ge=1, le=MOST_WIDTH)
    input_affine_dim: int = Field(default=140, ge=1, le=MOST_WIDTH)
    fsmn_layers: int = Field(default=4, ge=1, le=MOST_LAYERS)
    linear_dim: int = Field(default=250, ge=1, le=MOST_WIDTH)
    proj_dim: int = Field(default=128, ge=1, le=MOST_WIDTH)
    lorder: int = Field(default=20, ge=2, le=MOST_WIDTH)
    rorder: int = Field(default=0, ge=0, le=MOST_WIDTH)
    lstride: int = Field(default=1, ge=1, le=MOST_WIDTH)
    rstride: int = Field(default=0, ge=0, le=MOST_WIDTH)
    output_affine_dim: int = Field(default=140, ge=1, le=MOST_WIDTH)
    output_dim: int = Field(default=248, ge=2, le=MOST_WIDTH)
    sil_pdf_ids: list[int] = Field(default=[0], min_length=1)

    @property
    def cache(self) -> tuple[int, int, int, int]:
        """Shape of a layer's memory: the frames that it looks back."""
        return 1, self.proj_dim, (self.lorder - 1) * self.lstride, 1


def build(pipeline: Pipeline) -> Built:
    """Build FSMN-VAD as a pipeline describes it.

    Raises:
        ConfigError: a setting is wrong, or contradicts features or checkpoint.
        WeightsError: the checkpoint is missing or does not fit.
        MissingPackageError: funasr is not installed.
    """
    settings = read_settings(Settings, pipeline)
    source = weights_of(pipeline)
    if source.folder is not None:
        _need_features(pipeline)
    settings, checkpoint = merged(settings, source, LAYOUT, pipeline)
    scores = FsmnScores(upstream_encoder(settings, pipeline), settings.sil_pdf_ids)
    fill(nn.ModuleDict({"encoder": scores.encoder}), checkpoint, pipeline)
    statistics = checkpoint.statistics if checkpoint else None
    if not settings.streaming:
        scores.eval().requires_grad_(False)
        return Built(
            module=scores,
            takes="features",
            feature_size=settings.input_dim,
            inputs=(),
            outputs=batch_outputs(settings),
            weights=describe_weights(scores, source),
            statistics=statistics,
        )
    layers = settings.fsmn_layers
    module = _stream(pipeline, settings, scores, statistics)
    module.eval().requires_grad_(False)
    return Built(
        module=module,
        takes="tensors",
        inputs=stream_inputs(settings.cache, layers, pipeline.sample_rate_hz),
        outputs=stream_outputs(settings.cache, layers, settings.output_dim),
        weights=describe_weights(module, source),
        example=stream_example(settings.cache, layers),
        states={
            "next_samples": "samples",
            "next_steps": "steps",
            **{f"next_cache_{layer}": f"cache_{layer}" for layer in range(layers)},
        },
    )


def upstream_encoder(settings: Settings, pipeline: Pipeline) -> nn.Module:
    """Return FunASR's ``FSMN`` on the meta device: shapes, but no memory yet."""
    if settings.rorder and not settings.rstride:
        raise ConfigError(
            "a memory that looks ahead needs a stride",
            where=pipeline.where("model", "settings", "rorder"),
            remedy="write rstride: 1",
        )
    with upstream_package("FSMN-VAD", *FUNASR):
        FSMN = import_alone("funasr.models.fsmn_vad_streaming.encoder").FSMN
    with torch.device("meta"):
        return FSMN(**settings.model_dump(exclude={"streaming", "sil_pdf_ids"}))


def _stream(
    pipeline: Pipeline,
    settings: Settings,
    scores: FsmnScores,
    statistics: tuple[Tensor, Tensor] | None,
) -> FsmnVadStream:
    features = _need_features(pipeline)
    if features.lfr_n != 1 or features.lfr_m % 2 == 0:
        raise ConfigError(
            f"a stream needs an odd stack around every frame, not LFR "
            f"{features.lfr_m}/{features.lfr_n}",
            where=pipeline.where("features", "lfr_n"),
            remedy="write lfr_m: 5 and lfr_n: 1, or streaming: false",
        )
    width = features.num_mels * features.lfr_m
    if width != settings.input_dim:
        raise ConfigError(
            f"the features have {features.num_mels} x {features.lfr_m} = {width} values a frame, "
            f"but the model takes {settings.input_dim}",
            where=pipeline.where("features", "num_mels"),
            remedy="change num_mels, lfr_m or the model's input_dim",
        )
    fbank = KaldiFbank(
        num_mels=features.num_mels,
        sample_rate_hz=pipeline.sample_rate_hz,
        frame_length_ms=features.frame_length_ms,
        frame_shift_ms=features.frame_shift_ms,
        window=features.window,
    )
    cmvn = Cmvn(*(statistics or seeded_cmvn(width, pipeline.model.seed)))
    return FsmnVadStream(fbank, cmvn, scores, features.lfr_m)


def _need_features(pipeline: Pipeline) -> Features:
    if pipeline.features is None:
        raise ConfigError(
            "FSMN-VAD takes features, but there are none",
            where=pipeline.where("features"),
            remedy="write features: {kind: kaldi_fbank, lfr_m: 5, lfr_n: 1}",
        )
    return pipeline.features


def batch_outputs(settings: Settings) -> tuple[TensorSpec, ...]:
    """Specs of what a batch of recordings gives."""
    rows, steps = Axis(name="rows", minimum=1), Axis(name="num_scores", minimum=1)
    return (
        TensorSpec.of("scores", "float32", rows, steps, settings.output_dim),
        TensorSpec.of("speech_probs", "float32", rows, steps, unit="probability per 10 ms"),
        TensorSpec.of("score_lengths", "int64", rows, discrete=True, unit="scores in use"),
    )
