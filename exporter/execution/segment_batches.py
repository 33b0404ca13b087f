"""Which segments are run together, so that their rows, padded to the longest, stay small."""

from __future__ import annotations

import numpy as np


def plan_batches(lengths: np.ndarray, max_padded: int) -> list[np.ndarray]:
    """Sort rows by length and fill batches with them, the longest first.

        max_padded 12      |#######|    |####|    |##|
                                        |###.|    |#.|
                                        |###.|

    The longest first: an arena that has grown for it serves all later batches.

    Args:
        lengths: ``[S]`` int, of each row.
        max_padded: most that rows times the longest of them may be; a longer row is run alone.

    Returns:
        indices of rows, ``[R]`` int64 each, every row once.
    """
    order = np.argsort(-lengths, kind="stable")
    batches: list[np.ndarray] = []
    start = 0
    while start < len(order):
        rows = max(1, int(max_padded // max(1, int(lengths[order[start]]))))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def in_order(
    parts: list[np.ndarray], batches: list[np.ndarray], num_rows: int, *, where: str
) -> np.ndarray:
    """Put the rows of batches back; what is narrower than the widest is filled up.

    Args:
        parts: ``[R, ...]`` per batch.
        batches: the rows' indices.
        num_rows: how many there are in all.
        where: the output's name, for the error.

    Returns:
        ``[S, ...]``, filled up with -1 (integers: no token), False or 0.

    Raises:
        ValueError: a part has another number of rows than its batch.
    """
    wrong = [p.shape for p, rows in zip(parts, batches, strict=True) if p.shape[:1] != rows.shape]
    if wrong:
        raise ValueError(f"'{where}' has the shape {list(wrong[0])}, not one row per segment")
    widest = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    fill = -1 if np.issubdtype(parts[0].dtype, np.signedinteger) else 0
    result = np.full((num_rows, *widest), fill, parts[0].dtype)
    for part, rows in zip(parts, batches, strict=True):
        result[(rows, *(slice(size) for size in part.shape[1:]))] = part
    return result
