"""Which segments are run together, so that their rows, padded to the longest, stay small."""

from __future__ import annotations

import numpy as np


def plan_batches(lengths: np.ndarray, max_padded: int, per_batch: int) -> list[np.ndarray]:
    """Sort rows by length and cut where that costs least, padding and batches counted.

        max_padded 12, per_batch 2      |#######|    |####|    |##|
                                                     |####|    |#.|
                                                     |####|

    One batch of all rows computes on padding; a batch per row reads all weights for each of them.
    Found exactly: the best cut of the first rows is part of the best cut of more of them. The
    longest batches come first: an arena that has grown for them serves all later ones.

    Args:
        lengths: ``[S]`` int, of each row.
        max_padded: most that rows times the longest of them may be; a longer row is run alone.
        per_batch: what a batch costs whatever is in it, in units of ``lengths``.

    Returns:
        indices of rows, ``[R]`` int64 each, every row once.
    """
    order = np.argsort(-lengths, kind="stable")
    sizes = [int(length) for length in lengths[order]]
    costs, starts = [0], [0]
    for end in range(1, len(sizes) + 1):
        best = None
        for start in range(end - 1, -1, -1):
            padded = (end - start) * sizes[start]
            if padded > max_padded and start < end - 1:
                break
            cost = costs[start] + padded + per_batch
            best = min(best or (cost, start), (cost, start))
        costs.append(best[0] if best else 0)
        starts.append(best[1] if best else 0)
    batches: list[np.ndarray] = []
    end = len(sizes)
    while end:
        batches.append(order[starts[end] : end])
        end = starts[end]
    return batches[::-1]


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
