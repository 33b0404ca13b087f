"""How two arrays differ, as a kind and figures; the sentence is made when it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from exporter.contracts.compare.noise import Noise, distance, scale_of


class MismatchKind(StrEnum):
    """What it is that differs."""

    MISSING = "missing"
    SHAPE = "shape"
    DISCRETE = "discrete"
    NOT_FINITE = "not finite"
    VALUES = "values"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Two arrays that ought to be equal and are not.

    Attributes:
        kind: what differs.
        count: elements that differ; 0 for shapes.
        size: of the larger array.
        gap: largest absolute difference of finite values; 0.0 where none is measured.
        limit: what rounding explains; 0.0 for what has to be equal.
        left, right: the shapes, or the first values that differ, as text.
    """

    kind: MismatchKind
    count: int = 0
    size: int = 0
    gap: float = 0.0
    limit: float = 0.0
    left: str = ""
    right: str = ""

    @property
    def strain(self) -> float:
        """How far it is over the limit, to rank differences of one kind with others."""
        if self.kind is not MismatchKind.VALUES:
            return float("inf")
        return self.gap / self.limit if self.limit else float("inf")

    @property
    def limit_text(self) -> str:
        """The limit in words."""
        if self.kind is MismatchKind.VALUES and self.limit:
            return f"{self.limit:.3g}"
        return "equal"

    def moves(self, here: str, there: str) -> str:
        """As ``text``, without the limit that is told beside it."""
        return (
            f"moves by {self.gap:.3g}"
            if self.kind is MismatchKind.VALUES
            else self.text(here, there)
        )

    def text(self, here: str = "", there: str = "") -> str:
        """A clause with the array as its target: ``moves by 0.2``, ``is [3] and [4] there``.

        Args:
            here, there: where the left and the right array come from (``in PyTorch``).
        """
        here, there = (f" {place}" if place else "" for place in (here, there))
        if self.kind is MismatchKind.MISSING:
            return f"missing{there}"
        if self.kind is MismatchKind.SHAPE:
            return f"has the shape {self.left}{here} and {self.right}{there}"
        if self.kind is MismatchKind.VALUES:
            return f"differs by {self.gap:.3g} (limit {self.limit_text})"
        first = f"{self.left}{here} and {self.right}{there}"
        return f"differs in {self.count} of {self.size} values, the first is {first}"


def differ(
    left: np.ndarray, right: np.ndarray, noise: Noise, key: str, *, bitwise: bool = False
) -> Mismatch | None:
    """Compare two arrays; ``None`` when rounding explains what differs.

    Args:
        noise: what rounding explains under ``key``.
        bitwise: nothing may differ.
    """
    if left.shape != right.shape:
        shapes = str(list(left.shape)), str(list(right.shape))
        return Mismatch(kind=MismatchKind.SHAPE, left=shapes[0], right=shapes[1])
    size = left.size
    if left.dtype.kind in "biu" or right.dtype.kind in "biu":
        return _first_of(MismatchKind.DISCRETE, left, right, left != right)
    gap = distance(left, right)
    if not np.isfinite(gap):
        infinite = ~np.isfinite(left) | ~np.isfinite(right)
        alike = (left == right) | (np.isnan(left) & np.isnan(right))
        return _first_of(MismatchKind.NOT_FINITE, left, right, infinite & ~alike)
    # The limit grows with the scale: where the left one's is enough, the right one is not read.
    for measured in ((left,), (left, right)):
        limit = 0.0 if bitwise else noise.limit(key, scale_of(*measured), size)
        if gap <= limit:
            return None
    return Mismatch(
        kind=MismatchKind.VALUES, count=int((left != right).sum()), size=size, gap=gap, limit=limit
    )


def _first_of(
    kind: MismatchKind, left: np.ndarray, right: np.ndarray, apart: np.ndarray
) -> Mismatch | None:
    where = np.flatnonzero(apart)
    if not where.size:
        return None
    first = int(where[0])
    return Mismatch(
        kind=kind,
        count=int(where.size),
        size=left.size,
        left=shown(left.reshape(-1)[first]),
        right=shown(right.reshape(-1)[first]),
    )


def shown(value: np.generic) -> str:
    """One value for a message."""
    if value.dtype.kind == "f":
        return "NaN" if np.isnan(value) else f"{float(value):.3g}"
    return str(value.item())
