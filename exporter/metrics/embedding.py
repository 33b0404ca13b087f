"""What two sets of embeddings decide differently: cosines, and pairs about an equal-error point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Verification of all pairs, by PyTorch's and by ONNX's embeddings.

    Attributes:
        pairs, same: how many there are, and how many of one speaker.
        expected_eer, actual_eer: equal-error rates; None without pairs of both kinds.
        threshold: cosine at PyTorch's equal-error point.
        flipped: pairs that ONNX decides otherwise at that threshold.
        nearest: largest distance of a flipped pair's PyTorch cosine from the threshold; None
            where none is flipped.
    """

    pairs: int
    same: int
    expected_eer: float | None
    actual_eer: float | None
    threshold: float | None
    flipped: int
    nearest: float | None


def cosine(expected: np.ndarray, actual: np.ndarray) -> float | None:
    """Cosine of two embeddings, flattened; None where one is zero or no number."""
    left = np.asarray(expected, dtype=np.float64).reshape(-1)
    right = np.asarray(actual, dtype=np.float64).reshape(-1)
    if left.shape != right.shape or not left.size:
        return None
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    if not np.isfinite(norms) or norms == 0.0:
        return None
    return float(left @ right) / norms


def verify_pairs(expected: np.ndarray, actual: np.ndarray, labels: Sequence[str]) -> Pairs:
    """Judge every pair of N embeddings.

    Args:
        expected, actual: [N, D]. labels: of the speaker, one each.
    """
    rows, columns = np.triu_indices(len(labels), k=1)
    names = np.array(labels)
    same = names[rows] == names[columns]
    scores = [_unit(side) @ _unit(side).T for side in (expected, actual)]
    left, right = (side[rows, columns] for side in scores)
    if not same.any() or same.all():
        return Pairs(
            pairs=len(rows),
            same=int(same.sum()),
            expected_eer=None,
            actual_eer=None,
            threshold=None,
            flipped=0,
            nearest=None,
        )
    eer, threshold = equal_error(left, same)
    other, _ = equal_error(right, same)
    flipped = (left >= threshold) != (right >= threshold)
    return Pairs(
        pairs=len(rows),
        same=int(same.sum()),
        expected_eer=eer,
        actual_eer=other,
        threshold=threshold,
        flipped=int(flipped.sum()),
        nearest=float(np.abs(left - threshold)[flipped].max()) if flipped.any() else None,
    )


def equal_error(scores: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """Rate at which as many are wrongly taken as are wrongly refused, and the threshold there.

    The threshold lies half-way between two scores, so that no pair stands on it.

    Args:
        scores: [pairs]. same: [pairs], True for pairs of one speaker; both kinds are there.
    """
    order = np.argsort(scores, kind="stable")
    ordered, truth = scores[order], same[order]
    # Refusing the first k: how many of the same are refused, how many others are still taken.
    refused = np.concatenate([[0], np.cumsum(truth)]) / truth.sum()
    taken = 1 - np.concatenate([[0], np.cumsum(~truth)]) / (~truth).sum()
    at = int(np.argmin(np.abs(refused - taken)))
    ends = np.concatenate([[ordered[0] - 1.0], ordered, [ordered[-1] + 1.0]])
    return float((refused[at] + taken[at]) / 2), float((ends[at] + ends[at + 1]) / 2)


def _unit(rows: np.ndarray) -> np.ndarray:
    wide = np.asarray(rows, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(norms == 0.0, 1.0, norms)
