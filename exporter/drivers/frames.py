"""Frames of one utterance that count."""

from __future__ import annotations

import numpy as np

from exporter.core.tensors import Arrays
from exporter.drivers.graph import DriverStoppedError, Graph


def counted_frames(graph: Graph, outputs: Arrays, name: str, lengths: str | None) -> np.ndarray:
    """[T, D] of an output [1, T, D], as far as ``lengths`` says.

    Raises:
        DriverStoppedError: several utterances, another shape, or a length that cannot be.
    """
    value = outputs[name]
    if value.ndim != 3 or value.shape[0] != 1:
        raise DriverStoppedError(
            f"'{name}' is {list(value.shape)}; one utterance [1, T, D] is wanted", graph=graph.name
        )
    if lengths is None:
        return value[0]
    count = outputs[lengths].reshape(-1)
    if count.size != 1 or not 0 <= int(count[0]) <= value.shape[1]:
        raise DriverStoppedError(
            f"'{lengths}' is {count.tolist()} for {value.shape[1]} frames", graph=graph.name
        )
    return value[0, : int(count[0])]
