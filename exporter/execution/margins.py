"""How far a discrete decision was from going the other way.

Comparisons and argmax turn numbers into decisions. When two correct float32 runs decide
differently, the float64 margin at that place is as small as the rounding error of what was
compared; otherwise somebody is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from exporter.execution.evaluate import Lookup, widen
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


def margin_of(op: Op, reference: Lookup, truth: Lookup) -> Callable[[], Margin] | None:
    """A function that computes the margins of ``op``; None if it takes no decision on floats."""
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
        return lambda: Margin(
            distance=_top_gap(truth(floats[0]), dim, keep), noise=_noise(floats, reference, truth)
        )
    return None


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
    errors = [0.0]
    for name in names:
        exact = truth(name)
        difference = (widen(reference(name)) - exact).abs()
        finite = difference[torch.isfinite(difference)]
        errors.append(float(finite.max()) if finite.numel() else 0.0)
    return max(errors)
