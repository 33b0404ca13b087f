"""Outputs of runs that were made already, found again by what went in.

Several contracts want the same plain run as a starting point. It is made once; only what asks
whether a run repeats, or what a run leaves behind, must run again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

import numpy as np

from exporter.core.tensors import Arrays

_LARGEST_ENTRY = 32 * 2**20


class Memo:
    """Keeps outputs, read-only; those above 32 MiB are not kept."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, dict[str, np.ndarray]] = {}

    def get(self, key: Hashable) -> dict[str, np.ndarray] | None:
        """The outputs under ``key``; ``None`` when there are none."""
        kept = self._kept.get(key)
        return None if kept is None else dict(kept)

    def put(self, key: Hashable, outputs: Arrays) -> None:
        """Keep outputs; the arrays become read-only."""
        if sum(value.nbytes for value in outputs.values()) > _LARGEST_ENTRY:
            return
        for value in outputs.values():
            value.flags.writeable = False
        self._kept[key] = dict(outputs)


def digest_of(inputs: Arrays) -> str:
    """What distinguishes inputs: names, dtypes, shapes and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(inputs.items()):
        digest.update(f"{name} {value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
