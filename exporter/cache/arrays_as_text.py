"""Arrays as text that JSON holds, bit by bit, and back."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from exporter.core.tensors import Arrays

_KINDS = frozenset("fiub")


def packed(arrays: Arrays, limit: int) -> dict[str, Any] | None:
    """Name -> dtype, shape and bytes; None where they are more than ``limit`` or no numbers."""
    named = {name: np.asarray(value) for name, value in arrays.items()}
    if any(value.dtype.kind not in _KINDS for value in named.values()):
        return None
    if sum(value.nbytes for value in named.values()) > limit:
        return None
    return {
        name: {
            "dtype": value.dtype.str,
            "shape": list(value.shape),
            "data": base64.b64encode(value.tobytes()).decode(),
        }
        for name, value in named.items()
    }


def unpacked(content: Any) -> dict[str, np.ndarray] | None:
    """What ``packed`` was given; None where it is not that."""
    if not isinstance(content, Mapping):
        return None
    try:
        return {name: _array(entry) for name, entry in content.items()}
    except (KeyError, TypeError, ValueError):
        return None


def _array(entry: Any) -> np.ndarray:
    dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
    data = base64.b64decode(entry["data"], validate=True)
    if dtype.kind not in _KINDS or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError("not as it was packed")
    return np.frombuffer(data, dtype).reshape(shape).copy()
