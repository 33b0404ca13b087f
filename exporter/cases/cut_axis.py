"""Which input of a case, and which of its axes, is cut into calls: steps or windows."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.core.errors import ConfigError
from exporter.core.tensors import TensorSpec


def cut_axis(
    wanted: str | None,
    axis: str | int | None,
    specs: Mapping[str, TensorSpec],
    where: str,
    *,
    into: str,
) -> tuple[str, int]:
    """Name of the input and place of the axis.

    Args:
        wanted: the input; None for the first that has such an axis and carries no state.
        axis: its name or place; None for the last one that varies and is no batch.
        specs: of the graph's inputs, by name.
        where: place of the declaration, for the error. into: what it is cut into, "steps".

    Raises:
        ConfigError: there is no such input or axis.
    """
    for name, spec in specs.items():
        if wanted not in (None, name) or (spec.initial is not None and wanted is None):
            continue
        if axis is not None:
            # A number is a place: an axis of the fixed size 1 is not axis 1.
            named = isinstance(axis, str)
            axes = [n for n, size in enumerate(spec.shape) if axis == (size if named else n)]
        else:
            # A batch is not cut: the first of several axes.
            varies = [n for n, size in enumerate(spec.shape) if isinstance(size, str)]
            axes = [n for n in varies if n or len(spec.shape) == 1]
        if axes:
            return name, axes[-1]
    words = " ".join(str(word) for word in (wanted, axis) if word is not None)
    raise ConfigError(
        f"no input can be cut into {into}{f' ({words})' if words else ''}",
        where=where,
        remedy=f"name an input and one of its axes, or its number; inputs: {', '.join(specs)}",
    )
