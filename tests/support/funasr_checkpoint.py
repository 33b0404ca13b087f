"""Write a tiny SenseVoice checkpoint in exactly the format that FunASR publishes.

Every token is one ideograph of its own, so that text can be turned back into token ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from exporter.models.sensevoice import SenseVoiceRecogniser, Settings, upstream_model
from exporter.models.weights import seed_module
from exporter.speech.cmvn import seeded_cmvn

__all__ = ["TINY_SETTINGS", "ids_of_text", "token_table", "write_checkpoint"]

TINY_SETTINGS: dict[str, Any] = {"num_blocks": 2, "tp_blocks": 1, "vocab_size": 300}
_FIRST_LETTER = 0x20000
_UNKNOWN = "<unk>"


def write_checkpoint(
    folder: Path,
    *,
    seed: int = 7,
    settings: Mapping[str, Any] = TINY_SETTINGS,
    layout: str = "plain",
) -> Path:
    """Write ``config.yaml``, ``model.pt``, ``am.mvn`` and ``tokens.json``.

    Args:
        folder: is made.
        seed: of weights and statistics.
        settings: as in a pipeline.
        layout: ``plain``, ``state_dict`` (nested below that key) or ``prefixed`` (``module.``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = Settings.model_validate(dict(settings))
    module = SenseVoiceRecogniser(upstream_model(sizes))
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
    (folder / "config.yaml").write_text(yaml.safe_dump(_config(sizes)), encoding="utf-8")
    return folder


def token_table(vocab_size: int) -> list[str]:
    """One letter per token; the last one is FunASR's unknown symbol."""
    return [chr(_FIRST_LETTER + number) for number in range(vocab_size - 1)] + [_UNKNOWN]


def ids_of_text(text: str, vocab_size: int) -> list[list[int]]:
    """Turn text of ``AutoModel`` back into the token ids of each segment."""
    last = vocab_size - 1
    single = text.replace(_UNKNOWN, chr(_FIRST_LETTER + last))
    return (
        [[ord(letter) - _FIRST_LETTER for letter in part] for part in single.split(" ")]
        if text
        else []
    )


def am_mvn_text(shift: Tensor, scale: Tensor) -> str:
    """Statistics as Kaldi's text form of a three-component network."""
    size = len(shift)

    def numbers(values: Tensor) -> str:
        return " ".join(repr(float(value)) for value in values)

    return (
        f"<Nnet> \n<Splice> {size} {size}\n[ 0 ]\n"
        f"<AddShift> {size} {size} \n<LearnRateCoef> 0 [ {numbers(shift)} ]\n"
        f"<Rescale> {size} {size} \n<LearnRateCoef> 0 [ {numbers(scale)} ]\n</Nnet> \n"
    )


def _config(sizes: Settings) -> dict[str, Any]:
    return {
        "encoder": "SenseVoiceEncoderSmall",
        "encoder_conf": {
            **sizes.model_dump(exclude={"input_size", "vocab_size"}),
            "dropout_rate": 0.1,
            "positional_dropout_rate": 0.1,
            "attention_dropout_rate": 0.1,
            "input_layer": "pe",
            "pos_enc_class": "SinusoidalPositionEncoder",
            "normalize_before": True,
            "selfattention_layer_type": "sanm",
        },
        "model": "SenseVoiceSmall",
        "model_conf": {"length_normalized_loss": True, "sos": 1, "eos": 2, "ignore_id": -1},
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
