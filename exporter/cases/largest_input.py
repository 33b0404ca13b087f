"""How large an input may be: more is a slip of the pen, and is said before memory is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable

from exporter.core.errors import ConfigError

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
