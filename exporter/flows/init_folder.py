"""A checkpoint's folder -> a pipeline YAML, with a stub that loads it where one is needed.

config.json                       of Hugging Face: its class, loaded by ``from_pretrained``
config.yaml, configuration.json   of FunASR: a model that this package knows, else its encoder
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.config.yaml_text import values_of
from exporter.core.errors import UserInputError
from exporter.core.files import read_text
from exporter.core.reading import is_regular
from exporter.draft.content import pipeline_name

KNOWN = {
    "SenseVoiceSmall": "sensevoice",
    "Paraformer": "paraformer",
    "ParaformerStreaming": "paraformer",
    "FsmnVADStreaming": "fsmn_vad",
}
"""FunASR's name of a model -> the pipeline that is shipped for it."""
_PIPELINES = Path(__file__).resolve().parents[2] / "pipelines"
_HUGGING_FACE = '''"""Loads a checkpoint; written by export-verify init. Change what you like."""

import pathlib

import transformers

FOLDER = pathlib.Path(__file__).resolve().parent / {folder!r}


def build():
    model = transformers.{kind}.from_pretrained(FOLDER, local_files_only=True)
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False  # one call: nothing is handed to the next
    return model
'''
_FUNASR = '''"""Loads a checkpoint; written by export-verify init. Change what you like."""

import pathlib

import funasr

FOLDER = pathlib.Path(__file__).resolve().parent / {folder!r}


def build():
    # The folder's config.yaml may ask for code of its own to be run; what is said here decides.
    options = {{"disable_update": True, "trust_remote_code": False, "device": "cpu"}}
    model = funasr.AutoModel(model=str(FOLDER), **options).model
    # A whole model's forward is that of training; the encoder is what a file is made of.
    return model.encoder
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource:
    """What a folder is.

    Attributes:
        name: of the pipeline. stub: text of the module that loads it; "" where none is needed.
        extends: the shipped pipeline that takes it as its weights; None where there is none.
        what: in words.
    """

    name: str
    stub: str = ""
    extends: Path | None = None
    what: str


def folder_source(folder: Path, beside: Path) -> FolderSource:
    """Recognise a checkpoint.

    Args:
        beside: the folder of the YAML; paths count from there.

    Raises:
        UserInputError: nothing in it says what it is.
    """
    name = pipeline_name(folder.resolve().name)
    shown = os.path.relpath(folder.resolve(), beside.resolve())
    config = _json(folder / "config.json")
    if isinstance(config.get("model_type"), str):
        kinds = config.get("architectures")
        kind = kinds[0] if isinstance(kinds, list) and kinds else "AutoModel"
        stub = _HUGGING_FACE.format(folder=shown, kind=_identifier(kind, folder))
        return FolderSource(name=name, stub=stub, what=f"Hugging Face's {kind}")
    model = _funasr_model(folder)
    if model in KNOWN:
        base = _PIPELINES / f"{KNOWN[model]}.yaml"
        if is_regular(base):
            return FolderSource(name=name, extends=base, what=f"FunASR's {model}")
    if model:
        return FolderSource(name=name, stub=_FUNASR.format(folder=shown), what=f"FunASR's {model}")
    raise UserInputError(
        "nothing in this folder says what it is a checkpoint of",
        where=str(folder),
        remedy="give a folder with Hugging Face's config.json or FunASR's config.yaml, or write"
        " a function that builds the model and give it as package.module:function",
    )


def extending_yaml(source: FolderSource, folder: Path, beside: Path) -> str:
    """The YAML of a shipped pipeline with a folder's weights."""
    base = os.path.relpath(source.extends or "", beside.resolve())
    weights = os.path.relpath(folder.resolve(), beside.resolve())
    return (
        f"# {source.what}: the pipeline that is shipped for it, with these weights.\n"
        f"extends: {json.dumps(base)}\n"
        f"name: {source.name}\n"
        f"model: {{weights: {json.dumps(weights)}}}\n"
    )


def _funasr_model(folder: Path) -> str:
    place = folder / "config.yaml"
    if not is_regular(place):
        return ""
    try:
        values = values_of(read_text(place))
    except ValueError as error:
        raise UserInputError(
            "this is no YAML", where=str(place), remedy="download the checkpoint again"
        ) from error
    model = values.get("model") if isinstance(values, dict) else None
    return model if isinstance(model, str) else ""


def _json(place: Path) -> dict[str, Any]:
    if not is_regular(place):
        return {}
    try:
        content = json.loads(read_text(place))
    except (ValueError, RecursionError) as error:
        raise UserInputError(
            "this is no JSON", where=str(place), remedy="download the checkpoint again"
        ) from error
    return content if isinstance(content, dict) else {}


def _identifier(kind: Any, folder: Path) -> str:
    """A class's name: it is written into code, so it is one, or refused."""
    if not isinstance(kind, str) or not kind.isidentifier():
        raise UserInputError(
            f"'{str(kind)[:80]}' is no name of a class",
            where=str(folder / "config.json"),
            remedy="its 'architectures' has to name a class of transformers",
        )
    return kind
