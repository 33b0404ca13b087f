"""``model.settings`` of a pipeline, checked against the model file's own record."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from exporter.config import Pipeline
from exporter.core.errors import ConfigError

S = TypeVar("S", bound=BaseModel)
MOST_LAYERS, MOST_WIDTH = 1000, 1 << 20
"""What no model has more of; a typing error should not build modules for hours."""
_NO_MEMORY = re.compile("can't allocate memory|not enough memory|out of memory", re.IGNORECASE)
"""torch's words for it: on the CPU it has no class of its own."""


def read_settings(schema: type[S], pipeline: Pipeline) -> S:
    """Validate ``pipeline.model.settings``.

    Args:
        schema: the ``Settings`` of a model file.
        pipeline: the pipeline; ``where(*keys)`` gives file, line and key.

    Raises:
        ConfigError: a key is unknown or a value impossible; all of them in one message.
    """
    given = dict(pipeline.model.settings or {})
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        problems = [_explain(schema, item) for item in error.errors()]
        keys = [str(key) for key in error.errors()[0]["loc"]]
        raise ConfigError(
            "; ".join(problem for problem, _ in problems),
            where=pipeline.where("model", "settings", *keys),
            remedy="; ".join(dict.fromkeys(remedy for _, remedy in problems)),
        ) from error


def _explain(schema: type[BaseModel], item: Any) -> tuple[str, str]:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, schema.model_fields, n=1)
        known = ", ".join(schema.model_fields)
        return f"unknown setting '{key}'", (
            f"did you mean '{near[0]}'?" if near else f"known: {known}"
        )
    return f"'{key}': {item['msg']}", f"correct '{key}' (it is {item['input']!r})"


@contextlib.contextmanager
def memory_named(pipeline: Pipeline) -> Iterator[None]:
    """Sizes in settings or a checkpoint for which there is no memory are the user's to mend."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise ConfigError(
            "the model takes more memory than this machine can give",
            where=pipeline.where("model"),
            remedy="correct the sizes in its settings or checkpoint, or take a larger machine",
        ) from error
