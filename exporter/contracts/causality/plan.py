"""The inputs at which causality is looked at: one long case, its cuts, the declared lookahead."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from exporter.contracts.probes import resize
from exporter.contracts.target import Target, TimeAxis


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the probes share.

    Attributes:
        axis: the time axis.
        full: inputs of ``steps`` steps, one row.
        steps, cut: length, and where the future begins; chosen to be divisible by usual strides.
        sweep: further prefix lengths.
        declared: output -> lookahead in input steps.
    """

    axis: TimeAxis
    full: dict[str, np.ndarray]
    steps: int
    cut: int
    sweep: tuple[int, ...]
    declared: dict[str, int]
    skipped: dict[str, str] = field(default_factory=dict)

    def prefix(self, target: Target, size: int) -> dict[str, np.ndarray]:
        """The first ``size`` steps."""
        return resize(target, self.full, self.axis, size)
