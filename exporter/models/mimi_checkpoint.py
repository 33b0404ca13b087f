"""Weights of a Mimi decoder from kyutai's checkpoint or from transformers', for either decoder.

    kyutai          tokenizer-*.safetensors, keys decoder.model.0.conv.conv.weight ...
    transformers    config.json, model.safetensors, keys decoder.layers.0.conv.weight ...

Encoder, quantizer, transformers and resampling convolutions in the same file are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from exporter.config import Pipeline
from exporter.core.errors import WeightsError
from exporter.core.files import name_of_open, open_regular
from exporter.core.reading import reason
from exporter.models.stated import refuse_other, same_rate, same_setting
from exporter.models.weights import DAMAGED_SAFETENSORS, DOOR

_TENSORS = replace(DOOR, says="this is no readable safetensors file")
KYUTAI, TRANSFORMERS = "decoder.model.", "decoder.layers."
CONFIG = {
    "hidden_size": "dimension",
    "num_filters": "n_filters",
    "num_residual_layers": "n_residual_layers",
    "upsampling_ratios": "ratios",
    "kernel_size": "kernel_size",
    "residual_kernel_size": "residual_kernel_size",
    "last_kernel_size": "last_kernel_size",
    "compress": "compress",
    "dilation_growth_rate": "dilation_base",
}
"""Sizes in transformers' ``config.json`` -> what they are called in our settings."""
_FIXED = {
    "use_causal_conv": True,
    "use_conv_shortcut": False,
    "pad_mode": "constant",
    "trim_right_ratio": 1.0,
    "audio_channels": 1,
}


def read_decoder(path: Path, names: Mapping[str, str]) -> tuple[dict[str, Tensor], Path]:
    """Read the decoder's tensors.

    Args:
        path: a ``.safetensors`` file, or a folder that holds one.
        names: transformers' name of every tensor of the decoder -> moshi's.

    Returns:
        tensors by moshi's names, and the file that they come from.

    Raises:
        WeightsError: no file holds a Mimi decoder, or one cannot be read.
    """
    files = [path] if path.is_file() else _candidates(path)
    for file in files:
        with _opened(file) as content:
            keys = list(content.keys())
            layouts = [key for key in keys if key.startswith((KYUTAI, TRANSFORMERS))]
            if layouts:
                short = {key.removeprefix("decoder."): content.get_tensor(key) for key in layouts}
                return {names.get(key, key): tensor for key, tensor in short.items()}, file
    looked = ", ".join(file.name for file in files) or "no .safetensors file"
    raise WeightsError(
        f"there is no Mimi decoder in it ({looked})",
        where=str(path),
        remedy="give kyutai's tokenizer-*.safetensors, or a folder of transformers' kyutai/mimi",
    )


def _candidates(folder: Path) -> list[Path]:
    # A folder of moshi holds the language model too, as model.safetensors.
    files = sorted(folder.glob("*.safetensors"))
    return sorted(files, key=lambda file: not file.name.startswith("tokenizer-"))


def _opened(file: Path) -> Any:
    try:
        with open_regular(file) as stream:  # safetensors would wait for a pipe
            return safe_open(name_of_open(stream, file), framework="pt")
    except DAMAGED_SAFETENSORS as error:
        raise _TENSORS.bad(file, reason(error)) from error


def check_config(path: Path, settings: Mapping[str, Any], pipeline: Pipeline) -> None:
    """Compare a folder's ``config.json``, if there is one, with the settings of a pipeline.

    Args:
        settings: by moshi's names.

    Raises:
        WeightsError: it describes a decoder that is not supported, or cannot be read.
        ConfigError: the pipeline sets something else.
    """
    file = path / "config.json"
    if path.is_file() or not file.is_file():
        return
    config = DOOR.json(file)
    if not isinstance(config, dict):
        raise DOOR.bad(file, "this is not a table of keys")
    if config.get("model_type", "mimi") != "mimi":
        # A folder of moshi: its config.json describes the language model.
        return
    refuse_other(config, _FIXED, file)
    same_rate(pipeline, config.get("sampling_rate", pipeline.sample_rate_hz), file)
    for theirs, ours in CONFIG.items():
        if (stated := config.get(theirs)) is not None:
            same_setting(pipeline, ours, settings[ours], stated, f"{file} says {theirs} is")
