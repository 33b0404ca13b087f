"""What FunASR's checkpoint folders state, for each kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a checkpoint of one kind of model states, and where.

    Attributes:
        kind: the class that ``config.yaml`` names.
        sections: sections of ``config.yaml`` that hold settings -> what our names of them have in
            front.
        fixed: per section, keys that a pipeline cannot choose and the only value supported.
        sizes: settings that FunASR itself takes from tokenizer and front end -> the tensor of
            ``model.pt`` and its axis that tell them.
        defaults: what FunASR takes for settings that ``config.yaml`` leaves out, by our names.
    """

    kind: str
    sections: Mapping[str, str]
    fixed: Mapping[str, Mapping[str, Any]]
    sizes: Mapping[str, tuple[str, int]]
    defaults: Mapping[str, Any] = field(default_factory=dict)


SENSE_VOICE = Layout(
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

PARAFORMER = Layout(
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
