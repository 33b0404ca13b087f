"""How close the float64 run was to deciding otherwise, at the positions that differ."""

from __future__ import annotations

import numpy as np


def differing(reference: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Return the positions [N, ndim] int64 where two equally shaped arrays differ, in C order.

    Raises:
        ValueError: the shapes differ; nothing is broadcast.
    """
    if reference.shape != actual.shape:
        raise ValueError(f"shapes differ: {reference.shape}, {actual.shape}")
    return np.argwhere(reference != actual)


def choice_margins(logits: np.ndarray, reference: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Return the float64 gap [N] between the two choices, wherever an argmax differs.

    Args:
        logits: [..., C] what the float64 run chose from.
        reference: [...] int, index into C that float32 PyTorch chose.
        actual: [...] int, index into C that ONNX chose.

    The gap runs from the best class to the WORSE of the two choices, so a choice of a class that
    is not near the top has a large margin even when the two choices are near each other. An index
    outside of the classes has an infinite margin.

    Raises:
        ValueError: the shapes do not fit.
    """
    if logits.shape[:-1] != reference.shape:
        raise ValueError(f"logits {logits.shape} do not fit choices {reference.shape}")
    where = tuple(differing(reference, actual).T)
    rows = np.asarray(logits[where], dtype=np.float64)
    classes = rows.shape[-1]
    gaps = np.zeros(len(rows))
    for choices in (reference[where], actual[where]):
        inside = (choices >= 0) & (choices < classes)
        picked = np.take_along_axis(
            rows, np.where(inside, choices, 0).astype(np.int64)[:, None], axis=-1
        )[:, 0]
        gaps = np.maximum(gaps, np.where(inside, rows.max(axis=-1) - picked, np.inf))
    return gaps


def threshold_margins(
    values: np.ndarray, threshold: float, reference: np.ndarray, actual: np.ndarray
) -> np.ndarray:
    """Return ``|value - threshold|`` [N] of the float64 run, wherever a decision differs.

    Args:
        values: float64 values of the decisions' shape.
        threshold: what they are compared with.
        reference, actual: the decisions of float32 PyTorch and of ONNX.

    Raises:
        ValueError: the shapes do not fit.
    """
    if values.shape != reference.shape:
        raise ValueError(f"values {values.shape} do not fit decisions {reference.shape}")
    where = tuple(differing(reference, actual).T)
    return np.abs(np.asarray(values[where], dtype=np.float64) - threshold)
