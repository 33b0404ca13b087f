"""How other values like those of an example are drawn, as the ``draw`` of an input says it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_NEAR = 0.25
"""Mean and scale that are as near as this to 0 and 1 are those of the default."""


def draw_like(value: Tensor) -> dict[str, Any] | None:
    """The options of a draw; None where the default does: normal floats, True."""
    if not value.numel():
        return None
    if value.dtype == torch.bool:
        share = float(value.float().mean())
        return None if share == 1 else {"kind": "booleans", "probability": round(share, 3)}
    if not value.is_floating_point():
        low, high = int(value.min()), int(value.max())
        if low == high and value.numel() > 1:
            return {"kind": "constant", "value": low}
        return {"kind": "integers", "low": low, "high": high + 1}
    flat = value.double().flatten()
    if bool((flat == flat[0]).all()):
        return {"kind": "constant", "value": float(flat[0])}
    mean, scale = float(flat.mean()), float(flat.std())
    if abs(mean) < _NEAR and abs(scale - 1) < _NEAR:
        return None
    return {"kind": "normal", "scale": float(f"{scale:.3g}"), "mean": float(f"{mean:.3g}")}
