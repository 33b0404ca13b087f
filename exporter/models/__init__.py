"""The models that a pipeline can name. Importing this imports none of them."""

from __future__ import annotations

import difflib
import importlib
from typing import cast

from exporter.core.errors import ConfigError
from exporter.models.built import ModelFile

MODELS: dict[str, str] = {
    "ecapa_mel": "exporter.models.ecapa_mel",
    "metavoice": "exporter.models.metavoice",
    "mimi_decoder": "exporter.models.mimi_decoder",
    "paraformer": "exporter.models.paraformer",
    "sensevoice": "exporter.models.sensevoice",
    "silero_vad": "exporter.models.silero_vad",
    "fsmn_vad": "exporter.models.fsmn_vad",
}


def load_model_module(kind: str, *, where: str | None = None) -> ModelFile:
    """Import the file of a model kind.

    Args:
        kind: a key of ``MODELS``.
        where: file, line and key that named it, for the message.

    Raises:
        ConfigError: the kind is unknown.
    """
    if kind not in MODELS:
        near = difflib.get_close_matches(kind, MODELS, n=3)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(MODELS))}"
        )
        raise ConfigError(f"unknown model kind '{kind}'", where=where, remedy=hint)
    return cast(ModelFile, importlib.import_module(MODELS[kind]))
