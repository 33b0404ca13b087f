"""What lowering each layer does at the targets: to first order; beyond it, by a run of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from exporter.core.tensors import Arrays
from exporter.graph.program import Program
from exporter.interpret.propagated import Alone, Effects, Targets, propagate
from exporter.lowering.layers import Layer, as_read, by_layer

LARGE = 0.02
"""Relative error above which the first order is not believed: a magnitude that an error is larger
than grows whichever sign the error has, and everything saturates."""
_MOST = 32
"""Layers that are given a run of their own, those with the largest effects."""


def effects_of(
    program: Program,
    inputs: Arrays,
    layers: Sequence[Layer],
    errors: Mapping[str, np.ndarray],
    targets: Targets,
    *,
    directions: int,
    casts: Mapping[str, np.ndarray] = MappingProxyType({}),
    injected: frozenset[str] = frozenset(),
    **more: Any,
) -> tuple[Effects, int]:
    """Effects of the layers' own errors on one case, and how many whole runs that took.

    Args:
        errors: of every tap. casts: of every tap, what a layer that reads it does to it.
        injected: taps whose errors are there already; all effects are then of first order.
        directions, more: as for ``propagate``.
    """
    at = {as_read(tap): tap for tap in casts}
    every = {**errors, **{name: casts[tap] for name, tap in at.items()}}
    reached_effects = propagate(
        program, inputs, every, targets, directions=directions, injected=injected, at=at, **more
    )
    effects = by_layer(layers, reached_effects)
    runs = 1 + directions + len(effects.margins)
    # What is no number comes first: a run alone can say what it does.
    order = np.argsort(-np.nan_to_num(effects.damage, nan=np.inf))
    large = [n for n in order if not effects.damage[n] <= LARGE][:_MOST]
    if injected or not large:
        return effects, runs
    alone = Alone(program, inputs, targets)
    spread = np.array(effects.spread)
    for n in large:
        errors_here = {tap: errors[tap] for tap in layers[n].taps if tap in errors}
        errors_here |= {tap: casts[tap] for tap in layers[n].reads if tap in casts}
        measured, foreseen = alone.effect_of(errors_here), effects.damage[n]
        if np.isfinite(measured):
            spread[:, n] = spread[:, n] * measured / foreseen if np.isfinite(foreseen) else measured
    return replace(effects, spread=spread), runs + alone.runs
