"""SenseVoiceSmall: FunASR's own encoder and CTC head, with its prompts and greedy decoding.

Network: ``funasr.models.sense_voice.model.SenseVoiceSmall``; at its published size one block
from 560 to 512 features, 49 + 20 blocks of 512, 233,999,167 parameters. What surrounds it in
``SenseVoiceSmall.inference`` is written here as one forward that exports:

    | language | event | emotion | text norm | speech frames ... |    four rows of the prompt
                                                                      embedding in front
"""

from __future__ import annotations

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
from exporter.models.ctc import greedy_ctc
from exporter.models.import_alone import import_alone
from exporter.models.settings import MOST_LAYERS, MOST_WIDTH, read_settings
from exporter.models.upstream import FUNASR, upstream_package

PROMPT_FRAMES = 4
LAYOUT = CheckpointLayout(
    kind="SenseVoiceSmall",
    sections={"encoder_conf": ""},
    fixed={
        "encoder_conf": {
            "normalize_before": True,
            "concat_after": False,
            "selfattention_layer_type": "sanm",
        }
    },
    sizes={"vocab_size": ("ctc.ctc_lo.weight", 0), "input_size": ("embed.weight", 1)},
)


class Settings(Section):
    """``model.settings``; the defaults are the published size. Names are FunASR's."""

    input_size: int = Field(default=560, ge=4, le=MOST_WIDTH)
    vocab_size: int = Field(default=25055, ge=2, le=MOST_WIDTH)
    output_size: int = Field(default=512, ge=4, le=MOST_WIDTH)
    attention_heads: int = Field(default=4, ge=1, le=MOST_WIDTH)
    linear_units: int = Field(default=2048, ge=1, le=MOST_WIDTH)
    num_blocks: int = Field(default=50, ge=1, le=MOST_LAYERS)
    tp_blocks: int = Field(default=20, ge=0, le=MOST_LAYERS)
    kernel_size: int = Field(default=11, ge=1, le=MOST_WIDTH)
    sanm_shfit: int = Field(default=0, ge=0, le=MOST_WIDTH)


class SenseVoiceRecogniser(nn.Module):
    """Features to logits and tokens, on the submodules of an upstream ``SenseVoiceSmall``.

    They keep their names, so module paths and state dict keys are upstream's.

    Args:
        upstream: a ``SenseVoiceSmall``.
    """

    def __init__(self, upstream: Any) -> None:
        super().__init__()
        self.embed: nn.Module = upstream.embed
        self.encoder: nn.Module = upstream.encoder
        self.ctc: nn.Module = upstream.ctc
        self.blank = int(upstream.blank_id)

    def forward(
        self, features: Tensor, counts: Tensor, language: Tensor, text_norm: Tensor
    ) -> dict[str, Tensor]:
        """Recognise a batch.

        Args:
            features: ``[R, T, input_size]`` float32, R >= 1; not written to.
            counts: ``[R]`` int64, frames in use; may be 0.
            language: ``[]`` int64, row of the prompt embedding.
            text_norm: ``[]`` int64, row of the prompt embedding.

        Returns:
            ``logits`` [R, T + 4, vocab_size], ``logit_lengths`` [R] = counts + 4,
            ``token_ids`` [R, T + 4] padded with -1, ``token_lengths`` [R].
        """
        event_and_emotion = torch.arange(1, 3, device=features.device)
        rows = torch.cat([language.reshape(1), event_and_emotion, text_norm.reshape(1)])
        prompt = self.embed(rows).unsqueeze(0).expand(features.shape[0], -1, -1)
        # The encoder scales what it is given in place, and so must own it.
        frames = torch.cat([prompt, features], dim=1)
        lengths = counts + PROMPT_FRAMES
        encoded, _ = self.encoder(frames, lengths)
        logits = self.ctc.get_submodule("ctc_lo")(encoded)
        token_ids, token_lengths = greedy_ctc(logits, lengths, self.blank)
        return {
            "logits": logits,
            "logit_lengths": lengths,
            "token_ids": token_ids,
            "token_lengths": token_lengths,
        }


def build(pipeline: Pipeline) -> Built:
    """Build SenseVoice as a pipeline describes it.

    Raises:
        ConfigError: a setting is wrong, or contradicts the checkpoint.
        WeightsError: the checkpoint is missing or does not fit.
        MissingPackageError: funasr is not installed.
    """

    def made(settings: Settings) -> Recogniser:
        upstream = upstream_model(settings)
        return SenseVoiceRecogniser(upstream), prompt_inputs(upstream), output_specs(settings)

    return build_recogniser(pipeline, read_settings(Settings, pipeline), LAYOUT, made)


def upstream_model(settings: Settings) -> Any:
    """Return FunASR's ``SenseVoiceSmall`` on the meta device: shapes, but no memory yet."""
    with upstream_package("SenseVoice", *FUNASR):
        upstream = import_alone("funasr.models.sense_voice.model")
    encoder = settings.model_dump(exclude={"input_size", "vocab_size"})
    with torch.device("meta"):
        return upstream.SenseVoiceSmall(
            encoder="SenseVoiceEncoderSmall",
            encoder_conf={
                **encoder,
                "dropout_rate": 0.1,
                "positional_dropout_rate": 0.1,
                "attention_dropout_rate": 0.1,
                "input_layer": "pe",
                "pos_enc_class": "SinusoidalPositionEncoder",
                "normalize_before": True,
                "selfattention_layer_type": "sanm",
            },
            input_size=settings.input_size,
            vocab_size=settings.vocab_size,
            length_normalized_loss=True,
        )


def prompt_inputs(upstream: Any) -> tuple[TensorSpec, ...]:
    """Return the specs of ``language`` and ``text_norm`` with upstream's names of their values."""
    rows = {"language": upstream.lid_dict, "text_norm": upstream.textnorm_dict}
    return tuple(
        TensorSpec.of(name, "int64", choices=dict(known), unit="row of the prompt embedding")
        for name, known in rows.items()
    )


def output_specs(settings: Settings) -> tuple[TensorSpec, ...]:
    """Return the specs of what the recogniser returns, one row per row of features."""
    frames = Axis(name="num_frames", minimum=PROMPT_FRAMES + 1)
    length = "frames of 60 ms, the prompt's four included"
    return recogniser_outputs(settings.vocab_size, frames, length)
