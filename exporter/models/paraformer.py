"""Paraformer: FunASR's own encoder, CIF predictor and decoder, one pass from frames to tokens.

Network: ``funasr.models.paraformer.model.Paraformer``; at its published size an encoder of 50
blocks of 512 features, a predictor, and a decoder of 16 + 1 layers over 8404 tokens. What
surrounds the layers upstream (masks made of Python lists, a number of tokens read back from a
tensor) is written here as one forward that exports; the layers and their names are upstream's.

    frames -> encoder -> predictor: alphas, number of tokens N
                 |           |
                 |        one embedding per token -> decoder -> logits -> token ids
                 +--------------- memory ---------------^
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from exporter.config import Pipeline
from exporter.config.section import Section
from exporter.core.tensors import Axis, TensorSpec
from exporter.models.built import Built
from exporter.models.checkpoint_funasr import (
    CheckpointLayout,
    Recogniser,
    build_recogniser,
    recogniser_outputs,
)
from exporter.models.cif import CifPredictor, fire
from exporter.models.ctc import moved_to_front
from exporter.models.import_alone import import_alone
from exporter.models.settings import MOST_LAYERS, MOST_WIDTH, read_settings
from exporter.models.upstream import FUNASR, upstream_package

_REGISTERED = (
    "funasr.models.paraformer.cif_predictor",
    "funasr.models.paraformer.decoder",
    "funasr.models.sanm.encoder",
)
"""They register the classes that are asked for by name."""
LAYOUT = CheckpointLayout(
    kind="Paraformer",
    sections={"encoder_conf": "", "decoder_conf": "decoder_", "predictor_conf": ""},
    fixed={
        "encoder_conf": {
            "input_layer": "pe",
            "normalize_before": True,
            "concat_after": False,
            "selfattention_layer_type": "sanm",
            "positionwise_layer_type": "linear",
        },
        "decoder_conf": {"normalize_before": True, "concat_after": False, "input_layer": "embed"},
        "predictor_conf": {"threshold": 1.0},
        "model_conf": {"ctc_weight": 0.0, "share_embedding": False},
    },
    sizes={
        "vocab_size": ("decoder.output_layer.weight", 0),
        "input_size": ("encoder.encoders0.0.norm1.weight", 0),
    },
    defaults={
        "output_size": 256,
        "num_blocks": 6,
        "decoder_num_blocks": 6,
        "decoder_att_layer_num": 6,
        "decoder_kernel_size": 21,
        "tail_threshold": 0.0,
    },
)


class Settings(Section):
    """``model.settings``; the defaults are the published size.

    Names are FunASR's, those of the decoder with ``decoder_`` in front.
    """

    input_size: int = Field(default=560, ge=4, le=MOST_WIDTH)
    vocab_size: int = Field(default=8404, ge=4, le=MOST_WIDTH)
    output_size: int = Field(default=512, ge=4, le=MOST_WIDTH)
    attention_heads: int = Field(default=4, ge=1, le=MOST_WIDTH)
    linear_units: int = Field(default=2048, ge=1, le=MOST_WIDTH)
    num_blocks: int = Field(default=50, ge=1, le=MOST_LAYERS)
    kernel_size: int = Field(default=11, ge=1, le=MOST_WIDTH)
    sanm_shfit: int = Field(default=0, ge=0, le=MOST_WIDTH)
    decoder_attention_heads: int = Field(default=4, ge=1, le=MOST_WIDTH)
    decoder_linear_units: int = Field(default=2048, ge=1, le=MOST_WIDTH)
    decoder_num_blocks: int = Field(default=16, ge=1, le=MOST_LAYERS)
    decoder_att_layer_num: int = Field(default=16, ge=1, le=MOST_LAYERS)
    decoder_kernel_size: int = Field(default=11, ge=1, le=MOST_WIDTH)
    decoder_sanm_shfit: int = Field(default=0, ge=0, le=MOST_WIDTH)
    l_order: int = Field(default=1, ge=0, le=MOST_WIDTH)
    r_order: int = Field(default=1, ge=0, le=MOST_WIDTH)
    # Above 1 a frame could fire two tokens; without a tail upstream rounds instead of counting.
    smooth_factor: float = Field(default=1.0, gt=0, le=1)
    noise_threshold: float = Field(default=0.0, ge=0, lt=1)
    tail_threshold: float = Field(default=0.45, gt=0, lt=1)


class ParaformerRecogniser(nn.Module):
    """Features to logits and tokens, on the submodules of an upstream ``Paraformer``.

    They keep their names, so module paths and state dict keys are upstream's.

    Args:
        upstream: a ``Paraformer`` with a ``SANMEncoder``, a ``CifPredictorV2`` and a
            ``ParaformerSANMDecoder``.
    """

    def __init__(self, upstream: Any) -> None:
        super().__init__()
        self.encoder: nn.Module = upstream.encoder
        self.predictor = CifPredictor(upstream.predictor)
        self.decoder: nn.Module = upstream.decoder
        self.feature_scale = float(upstream.encoder.output_size() ** 0.5)
        self.special = (int(upstream.blank_id), int(upstream.sos), int(upstream.eos))

    def forward(self, features: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """Recognise a batch.

        Args:
            features: ``[R, T, input_size]`` float32, R >= 1, T >= 1; not written to.
            counts: ``[R]`` int64, frames in use; may be 0.

        Returns:
            ``logits`` [R, N, vocab_size] of every embedding that fired and ``logit_lengths`` [R],
            their number; ``token_ids`` [R, N] without blank, start and end, padded with -1, and
            ``token_lengths`` [R]. N is the largest of ``logit_lengths``, but at least 1.
        """
        hidden, attended = self.encode(features, counts)
        embeddings, lengths = fire(hidden, self.predictor(hidden, counts))
        spoken = _mask(lengths, embeddings.shape[1])
        logits = self._decode(embeddings, spoken.unsqueeze(2), hidden, attended)
        best = logits.argmax(dim=-1)
        for token in self.special:
            spoken = spoken & (best != token)
        token_ids, token_lengths = moved_to_front(best, spoken)
        return {
            "logits": logits,
            "logit_lengths": lengths,
            "token_ids": token_ids,
            "token_lengths": token_lengths,
        }

    def encode(self, features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch; arguments as in ``forward``.

        Returns:
            frames ``[R, T, output_size]``, zero behind each row's count; what of them may be
            attended to, ``[R, 1, T]``, 1.0 or 0.0.
        """
        encoder, width = self.encoder, features.shape[1]
        # Attention cannot look at nothing, so a row without frames looks at its first, of zeros.
        mask = _mask(counts.clamp(min=1), width).unsqueeze(1).to(features.dtype)
        frames = encoder.get_submodule("embed")(features * self.feature_scale)
        # Called one by one: upstream's container draws random numbers that it uses in training.
        for layer in chain(_layers(encoder, "encoders0"), _layers(encoder, "encoders")):
            frames = layer(frames, mask)[0]
        frames = encoder.get_submodule("after_norm")(frames)
        used = _mask(counts, width).unsqueeze(2)
        return torch.where(used, frames, torch.zeros_like(frames)), mask

    def _decode(
        self, embeddings: Tensor, spoken: Tensor, memory: Tensor, memory_mask: Tensor
    ) -> Tensor:
        decoder, mask = self.decoder, spoken.to(embeddings.dtype)
        tokens = embeddings
        names = ("decoders", "decoders2", "decoders3")
        for layer in chain.from_iterable(_layers(decoder, name) for name in names):
            tokens = layer(tokens, mask, memory, memory_mask)[0]
        tokens = decoder.get_submodule("after_norm")(tokens)
        return decoder.get_submodule("output_layer")(tokens)


def _mask(lengths: Tensor, size: int) -> Tensor:
    """``[R, size]`` bool, True where a place is in use."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def _layers(part: nn.Module, name: str) -> tuple[nn.Module, ...]:
    layers = getattr(part, name)
    return () if layers is None else tuple(layers)


def build(pipeline: Pipeline) -> Built:
    """Build Paraformer as a pipeline describes it.

    Raises:
        ConfigError: a setting is wrong, or contradicts the checkpoint.
        WeightsError: the checkpoint is missing or does not fit.
        MissingPackageError: funasr is not installed.
    """

    def made(settings: Settings) -> Recogniser:
        return ParaformerRecogniser(upstream_model(settings)), (), output_specs(settings)

    return build_recogniser(pipeline, read_settings(Settings, pipeline), LAYOUT, made)


def upstream_model(settings: Settings) -> Any:
    """Return FunASR's ``Paraformer`` on the meta device: shapes, but no memory yet."""
    with upstream_package("Paraformer", *FUNASR):
        for name in _REGISTERED:
            import_alone(name)
        upstream = import_alone("funasr.models.paraformer.model")
    with torch.device("meta"):
        return upstream.Paraformer(
            encoder="SANMEncoder",
            encoder_conf=_section(
                settings,
                "output_size attention_heads linear_units num_blocks kernel_size sanm_shfit",
                input_layer="pe",
                attention_dropout_rate=0.1,
            ),
            decoder="ParaformerSANMDecoder",
            decoder_conf=_section(
                settings,
                "attention_heads linear_units num_blocks att_layer_num kernel_size sanm_shfit",
                prefix="decoder_",
            ),
            predictor="CifPredictorV2",
            predictor_conf=_section(
                settings,
                "l_order r_order smooth_factor noise_threshold tail_threshold",
                idim=settings.output_size,
            ),
            ctc_weight=0.0,
            input_size=settings.input_size,
            vocab_size=settings.vocab_size,
        )


def _section(settings: Settings, names: str, *, prefix: str = "", **more: Any) -> dict[str, Any]:
    return {name: getattr(settings, f"{prefix}{name}") for name in names.split()} | more


def output_specs(settings: Settings) -> tuple[TensorSpec, ...]:
    """Return the specs of what the recogniser returns, one row per row of features."""
    tokens = Axis(name="num_tokens", minimum=1)
    return recogniser_outputs(settings.vocab_size, tokens, "embeddings that fired")
