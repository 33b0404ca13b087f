"""A case outside of the sizes that a model takes is said before anything is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from exporter.core.errors import ConfigError
from exporter.core.tensors import TensorSpec

if TYPE_CHECKING:
    from exporter.config import Pipeline


def check_limits(
    pipeline: Pipeline,
    specs: Sequence[TensorSpec],
    arrays: Mapping[str, np.ndarray],
    *,
    where: str,
) -> None:
    """Refuse arrays whose sizes a user's own model does not take.

    Args:
        specs: of the inputs, with the limits that are declared or were found.
        arrays: by input. where: what gives them, for the message.

    Raises:
        ConfigError: a size is outside of its axis.
    """
    for spec in specs:
        if spec.name not in pipeline.inputs or spec.name not in arrays:
            continue
        limits = {axis.name: axis for axis in spec.axes}
        for name, size in zip(spec.shape, arrays[spec.name].shape, strict=False):
            axis = limits.get(name) if isinstance(name, str) else None
            if axis is None or _inside(size, axis.minimum, axis.maximum):
                continue
            declared = pipeline.axes.get(axis.name)
            written = declared is not None and not _inside(size, declared.minimum, declared.maximum)
            source = "as its axes say" if written else "as was found in the model"
            raise ConfigError(
                f"'{spec.name}' has {size} {axis.name}; what is exported takes"
                f" {_words(axis.minimum, axis.maximum)}, {source}",
                where=where,
                remedy=f"give {_words(axis.minimum, axis.maximum)} {axis.name}",
            )


def _inside(size: int, minimum: int, maximum: int | None) -> bool:
    return size >= minimum and (maximum is None or size <= maximum)


def _words(minimum: int, maximum: int | None) -> str:
    return f"{minimum} or more" if maximum is None else f"{minimum} to {maximum}"
