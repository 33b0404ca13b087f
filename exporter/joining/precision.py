"""How near two values have to be in float64 to be one, by the precision of the files."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.joining.join import FLOAT32

WITHIN: Mapping[str, float] = {
    "float32": FLOAT32,
    "float16": 2e-2,
    "bfloat16": 1e-1,
    "int8": 2e-1,
    "int8_weights": 2e-1,
}
"""Relative rms distance."""
