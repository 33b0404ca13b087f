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
    (count,) = counts(outputs[lengths], lengths, value.shape[:2], graph.name)
    return value[0, :count]


def counts(lengths: np.ndarray, name: str, of: tuple[int, ...], graph: str) -> list[int]:
    """How much of each row counts.

    Args:
        lengths: one number for each row. of: rows, and the size of one.

    Raises:
        DriverStoppedError: they are not one for each row, or none that a row can have.
    """
    rows, most = of
    flat = lengths.reshape(-1)
    # Written so that NaN does not fit.
    if flat.size != rows or not ((flat >= 0) & (flat <= most)).all():
        many = f"{rows} rows of " if rows > 1 else ""
        raise DriverStoppedError(
            f"'{name}' is {flat.tolist()} for {many}{most} frames", graph=graph
        )
    return [int(count) for count in flat]
