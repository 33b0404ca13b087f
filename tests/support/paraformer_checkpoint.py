"""Write a tiny Paraformer checkpoint in exactly the format that FunASR publishes.

Every token is one ideograph of its own, so that text can be turned back into token ids; the first
three are blank, start and end, which upstream never writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from exporter.models.paraformer import ParaformerRecogniser, Settings, upstream_model
from exporter.models.weights import seed_module
from exporter.speech.cmvn import seeded_cmvn
from tests.support.funasr_checkpoint import am_mvn_text
from tests.support.pipelines import TINY_PARAFORMER

__all__ = ["ids_of_text", "token_table", "write_checkpoint"]

# Upstream's text postprocessing joins without spaces only what it takes for Chinese.
_FIRST_LETTER = 0x4E00
_SPECIAL = ["<blank>", "<s>", "</s>"]
_UNKNOWN = "<unk>"


def write_checkpoint(
    folder: Path,
    *,
    seed: int = 7,
    settings: Mapping[str, Any] = TINY_PARAFORMER,
    layout: str = "plain",
    change: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write ``config.yaml``, ``model.pt``, ``am.mvn`` and ``tokens.json``.

    Args:
        folder: is made.
        seed: of weights and statistics.
        settings: as in a pipeline.
        layout: ``plain``, ``state_dict`` (nested below that key) or ``prefixed`` (``module.``).
        change: per section of ``config.yaml``, keys to add or to replace.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = Settings.model_validate(dict(settings))
    module = ParaformerRecogniser(upstream_model(sizes))
    seed_module(module, seed)
    state: dict[str, Any] = dict(module.state_dict())
    if layout == "prefixed":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    if layout == "state_dict":
        state = {"state_dict": state, "epoch": 3}
    torch.save(state, folder / "model.pt")
    (folder / "am.mvn").write_text(
        am_mvn_text(*seeded_cmvn(sizes.input_size, seed)), encoding="utf-8"
    )
    (folder / "tokens.json").write_text(json.dumps(token_table(sizes.vocab_size)), encoding="utf-8")
    config = _config(sizes)
    for section, keys in (change or {}).items():
        config[section] = {**config.get(section, {}), **keys}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def token_table(vocab_size: int) -> list[str]:
    """Three special tokens, one letter per token, and FunASR's unknown symbol."""
    letters = [chr(_FIRST_LETTER + number) for number in range(3, vocab_size - 1)]
    return [*_SPECIAL, *letters, _UNKNOWN]


def ids_of_text(text: str) -> list[list[int]]:
    """Turn text of ``AutoModel`` back into the token ids of each segment.

    The unknown symbol is not in it: upstream's text postprocessing leaves it out.
    """
    if not text:
        return []
    return [[ord(letter) - _FIRST_LETTER for letter in part] for part in text.split(" ")]


def _config(sizes: Settings) -> dict[str, Any]:
    dropout = {"dropout_rate": 0.1, "positional_dropout_rate": 0.1}
    held = sizes.model_dump()
    encoder = "output_size attention_heads linear_units num_blocks kernel_size sanm_shfit".split()
    predictor = "l_order r_order tail_threshold".split()
    return {
        "encoder": "SANMEncoder",
        "encoder_conf": {
            **{key: held[key] for key in encoder},
            **dropout,
            "attention_dropout_rate": 0.1,
            "input_layer": "pe",
            "pos_enc_class": "SinusoidalPositionEncoder",
            "normalize_before": True,
            "selfattention_layer_type": "sanm",
        },
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": {
            **{
                key.removeprefix("decoder_"): value
                for key, value in held.items()
                if key.startswith("decoder_")
            },
            **dropout,
            "self_attention_dropout_rate": 0.1,
            "src_attention_dropout_rate": 0.1,
        },
        "predictor": "CifPredictorV2",
        "predictor_conf": {
            "idim": sizes.output_size,
            "threshold": 1.0,
            **{key: held[key] for key in predictor},
        },
        "model": "Paraformer",
        "model_conf": {
            "ctc_weight": 0.0,
            "lsm_weight": 0.1,
            "length_normalized_loss": True,
            "predictor_weight": 1.0,
            "predictor_bias": 1,
            "sampling_ratio": 0.75,
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": _UNKNOWN, "split_with_space": True},
        "frontend": "WavFrontend",
        "frontend_conf": {
            "fs": 16000,
            "window": "hamming",
            "n_mels": 80,
            "frame_length": 25,
            "frame_shift": 10,
            "lfr_m": 7,
            "lfr_n": 6,
            "dither": 0.0,
        },
    }
