"""SpeechBrain's checkpoint folder of a MelSpectrogramEncoder, without running code from it.

It holds ``hyperparams.yaml`` and ``embedding_model.ckpt``. The first is HyperPyYAML, which imports
and calls what its tags name. Here it is read as plain YAML: tags are dropped, ``!ref <key>`` is
looked up, nothing is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from exporter.config import Pipeline
from exporter.config.foreign_yaml import read_foreign_yaml
from exporter.core.errors import WeightsError
from exporter.core.reading import Door
from exporter.models.stated import same_rate, same_setting

_DOOR = Door(
    error=WeightsError,
    says="the checkpoint's settings cannot be read",
    remedy="give the whole folder that SpeechBrain published",
    most_bytes=1 << 20,
)
HYPERPARAMS, EMBEDDING = "hyperparams.yaml", "embedding_model.ckpt"
_MEL = ("n_mel_channels", "n_fft", "win_length", "hop_length", "mel_fmin", "mel_fmax")
NETWORK = tuple(
    "channels kernel_sizes dilations groups attention_channels res2net_scale se_channels "
    "lin_neurons".split()
)
# What the graph is written for; other values need another graph.
_FIXED = {
    "power": 1,
    "mel_normalized": False,
    "norm": "slaney",
    "mel_scale": "slaney",
    "dynamic_range_compression": True,
}
_REF = re.compile(r"<([\w.]+)>")


class _Plain(yaml.SafeLoader):
    """Values without what their tags would do."""


def _without_tag(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    # Only a reference is text with a tag; numbers and flags have none.
    return loader.construct_scalar(node)  # type: ignore[arg-type]


_Plain.add_multi_constructor("!", _without_tag)


def check_hyperparams(folder: Path, settings: Mapping[str, Any], pipeline: Pipeline) -> None:
    """Compare a checkpoint's ``hyperparams.yaml`` with a pipeline.

    Args:
        folder: the checkpoint.
        settings: the pipeline's, by SpeechBrain's names.

    Raises:
        WeightsError: a file is missing or unreadable, or it is the checkpoint of another front end.
        ConfigError: the pipeline sets something else than the checkpoint states.
    """
    for name in (HYPERPARAMS, EMBEDDING):
        if not (folder / name).is_file():
            raise WeightsError(
                f"{name} is missing", where=str(folder), remedy="give the whole checkpoint folder"
            )
    file = folder / HYPERPARAMS
    stated = _read(file)
    if "n_mel_channels" not in stated:
        raise WeightsError(
            "this checkpoint is of another front end: it states no n_mel_channels",
            where=str(file),
            remedy="give one of a MelSpectrogramEncoder, as speechbrain/tts-ecapa-voxceleb",
        )
    _check_fixed(stated, file)
    network_values = {key: stated[key] for key in _MEL if key in stated}
    network = stated.get("embedding_model")
    if isinstance(network, Mapping):
        network_values |= {
            key: _resolved(network[key], stated) for key in NETWORK if key in network
        }
    same_rate(pipeline, stated.get("sample_rate", pipeline.sample_rate_hz), file)
    for key, theirs in network_values.items():
        same_setting(pipeline, key, settings[key], theirs, f"{file} says")


def _check_fixed(stated: Mapping[str, Any], file: Path) -> None:
    wrong = {key: stated[key] for key, only in _FIXED.items() if stated.get(key, only) != only}
    normalizer = stated.get("normalizer")
    if isinstance(normalizer, Mapping):
        for key, only in {"norm_type": "sentence", "std_norm": False}.items():
            if normalizer.get(key, only) != only:
                wrong[f"normalizer.{key}"] = normalizer[key]
    if wrong:
        told = ", ".join(f"{key}: {value!r}" for key, value in wrong.items())
        raise WeightsError(f"not supported: {told}", where=str(file))


def _resolved(value: Any, stated: Mapping[str, Any]) -> Any:
    match = _REF.fullmatch(value) if isinstance(value, str) else None
    return stated.get(match[1], value) if match else value


def _read(file: Path) -> Mapping[str, Any]:
    content = read_foreign_yaml(_DOOR, file, _Plain)
    if not isinstance(content, dict):
        raise _DOOR.bad(file, "this is not a table of keys")
    return content
