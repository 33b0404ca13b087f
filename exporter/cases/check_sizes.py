"""Sizes that no input has, sizes and values that a model does not take: said before any run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from exporter.core.errors import ConfigError
from exporter.core.tensors import TensorSpec

if TYPE_CHECKING:
    from exporter.config import Pipeline

MOST_ELEMENTS = 1 << 28
"""Of one input: four hours of sound at 16 kHz, a gigabyte of float32."""


def check_elements(shape: Iterable[int], where: str | None) -> None:
    """Refuse a shape that no input has.

    Raises:
        ConfigError: it has a negative size, or too many elements.
    """
    sizes = tuple(shape)
    count = math.prod(sizes)
    if min(sizes, default=0) < 0 or count > MOST_ELEMENTS:
        raise ConfigError(
            f"an input of shape {list(sizes)} is not possible: {count:,} elements",
            where=where,
            remedy=f"give sizes of at most {MOST_ELEMENTS:,} elements together",
        )


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
            if axis is None or axis.takes(size):
                continue
            written = axis.name in pipeline.axes and not pipeline.axis(axis.name).takes(size)
            source = "as its axes say" if written else "as was found in the model"
            raise ConfigError(
                f"'{spec.name}' has {size} {axis.name}; what is exported takes"
                f" {axis.words()}, {source}",
                where=where,
                remedy=f"give {axis.words()} {axis.name}",
            )


def check_values(
    specs: Mapping[str, TensorSpec], arrays: Mapping[str, np.ndarray], places: Mapping[str, str]
) -> None:
    """Refuse integers that look up what is not there.

    Args:
        places: input -> where the case gives it.

    Raises:
        ConfigError: says which input, which value and which it takes.
    """
    for name, array in arrays.items():
        below = specs[name].below
        if below is None:
            continue
        beyond = array[(array < 0) | (array >= below)]
        if beyond.size:
            raise ConfigError(
                f"'{name}' holds {beyond.flat[0]}, and the model takes 0 to {below - 1}",
                where=places[name],
                remedy=f"give values from 0 to {below - 1}",
            )
