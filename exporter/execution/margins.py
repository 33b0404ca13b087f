"""How far a discrete decision was from going the other way.

Comparisons and argmax turn numbers into decisions. When two correct float32 runs decide
differently, the float64 margin at that place is as small as the rounding error of what was
compared; otherwise somebody is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from exporter.execution.evaluate import Lookup, widen
from exporter.execution.slices import LinearSlices
from exporter.graph.program import Op, Ref

_COMPARISONS = frozenset({"ge", "gt", "le", "lt", "eq", "ne"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """Margin of each element of a discrete value.

    Attributes:
        distance: float64, shape of the decision: distance from the other decision.
        noise: largest distance between float32 and float64 PyTorch in what was decided on.
    """

    distance: np.ndarray
    noise: float


def margin_of(
    op: Op, reference: Lookup, truth: Lookup, slices: Mapping[str, LinearSlices] | None = None
) -> Callable[[], Margin] | None:
    """A function that computes the margins of ``op``; None if it takes no decision on floats.

    Args:
        reference, truth: the float32 and the free float64 value behind a name.
        slices: values whose ``truth`` is too large to be held at once.
    """
    name = op.target.split(".")[1] if op.target.startswith("aten.") else ""
    operands = [arg for arg in op.args[:2] if isinstance(arg, Ref)]
    floats = [arg.name for arg in operands if _is_float(reference(arg.name))]
    if not floats:
        return None
    if name in _COMPARISONS:
        return lambda: Margin(
            distance=_difference(op.args[0], op.args[1], truth),
            noise=_noise(floats, reference, truth),
        )
    if name == "argmax":
        dim = op.args[1] if len(op.args) > 1 else op.kwargs.get("dim")
        keep = bool(op.args[2] if len(op.args) > 2 else op.kwargs.get("keepdim", False))
        source = reference(floats[0])
        if slices and floats[0] in slices and dim in (-1, source.dim() - 1):
            sliced = slices[floats[0]]
            return lambda: _margin_by_rows(sliced, source, keep)
        return lambda: Margin(
            distance=_top_gap(truth(floats[0]), dim, keep), noise=_noise(floats, reference, truth)
        )
    return None


def _margin_by_rows(slices: LinearSlices, reference: torch.Tensor, keep: bool) -> Margin:
    """The margin of a choice within each row, whose float64 values come some rows at a time."""
    gaps, noise = [], 0.0
    for rows, exact in slices.truth_by_rows(reference):
        gaps.append(_top_gap(exact, -1, keep))
        noise = max(noise, _distance(rows, exact))
    shape = (*reference.shape[:-1], 1) if keep else tuple(reference.shape[:-1])
    return Margin(distance=np.concatenate(gaps).reshape(shape), noise=noise)


def _difference(left: Any, right: Any, truth: Lookup) -> np.ndarray:
    sides = [truth(a.name) if isinstance(a, Ref) else a for a in (left, right)]
    first, second = (widen(torch.as_tensor(side)) for side in sides)
    return (first - second).abs().numpy()


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _top_gap(values: torch.Tensor, dim: int | None, keepdim: bool) -> np.ndarray:
    if dim is None:
        values, dim = values.flatten(), 0
    best = torch.topk(values, min(2, values.shape[dim]), dim=dim).values
    gap = best.select(dim, 0) - best.select(dim, -1)
    return (gap.unsqueeze(dim) if keepdim else gap).numpy()


def _noise(names: list[str], reference: Lookup, truth: Lookup) -> float:
    return max((_distance(reference(name), truth(name)) for name in names), default=0.0)


def _distance(reference: torch.Tensor, exact: torch.Tensor) -> float:
    """Largest distance where it is finite."""
    difference = (widen(reference) - exact).abs()
    finite = difference[torch.isfinite(difference)]
    return float(finite.max()) if finite.numel() else 0.0
