"""A tap that is too large to hold in float64 is judged in slices.

Ten minutes of speech make logits of a gigabyte in float32; their two float64 values would take
four more. A linear layer's rows do not depend on each other, so its float64 values can be
computed, compared and dropped a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from exporter.graph.program import Op, Ref

SLICED_OPS = frozenset({"aten.linear.default"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TapPart:
    """Some rows ``[r, D]`` of a tap; the fields are those of ``TapValues``."""

    reference: np.ndarray
    truth_free: np.ndarray
    truth_local: np.ndarray
    free: np.ndarray | None
    forced: np.ndarray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSlices:
    """Float64 values of ``x @ weight.T + bias``, row by row.

    Attributes:
        wide, local: ``[..., K]`` float64 input of the free and of the local value.
        weight: ``[D, K]`` float64. bias: ``[D]`` float64 or None.
        rows: rows per slice.
    """

    wide: torch.Tensor
    local: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    rows: int

    def parts(
        self, reference: np.ndarray, free: np.ndarray | None, forced: np.ndarray | None
    ) -> Iterator[TapPart]:
        """Slices of all five values; ``free`` and ``forced`` have the shape of ``reference``."""
        width = reference.shape[-1]
        flat = [None if a is None else a.reshape(-1, width) for a in (reference, free, forced)]
        wide, local = (x.reshape(-1, x.shape[-1]) for x in (self.wide, self.local))
        for start in range(0, len(wide), self.rows):
            rows = slice(start, start + self.rows)
            yield TapPart(
                reference=reference.reshape(-1, width)[rows],
                truth_free=self._rows(wide[rows]),
                truth_local=self._rows(local[rows]),
                free=None if flat[1] is None else flat[1][rows],
                forced=None if flat[2] is None else flat[2][rows],
            )

    def _rows(self, x: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return functional.linear(x, self.weight, self.bias).numpy()

    def truth_by_rows(self, reference: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """``(reference, free float64)`` in slices ``[r, D]``."""
        wide = self.wide.reshape(-1, self.wide.shape[-1])
        pairs = zip(
            reference.reshape(-1, reference.shape[-1]).split(self.rows),
            wide.split(self.rows),
            strict=True,
        )
        for rows, x in pairs:
            yield rows, functional.linear(x, self.weight, self.bias)

    def whole_local(self) -> torch.Tensor:
        """The local float64 value, all of it; only for a value that fails."""
        return functional.linear(self.local, self.weight, self.bias)

    def whole(self) -> torch.Tensor:
        """The free float64 value, all of it; only for the margins of a decision that differs."""
        return functional.linear(self.wide, self.weight, self.bias)


def operands(op: Op) -> tuple[str, str, str | None]:
    """Names of input, weight and bias of a linear op."""
    names = [arg.name if isinstance(arg, Ref) else None for arg in op.args]
    x, weight = names[0], names[1]
    if x is None or weight is None:
        raise ValueError(f"'{op.name}' has no tensor operands")
    return x, weight, names[2] if len(names) > 2 else None
