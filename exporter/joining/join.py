"""Join the values of two files, each join proved by numbers; in doubt a value is not joined.

Every value of both files is computed in float64 on two or more sets of inputs.

    proved by value   a value of B agrees with one of A, and with no other that is not the same
    proved by role    it agrees with none; but fed A's numbers in its place, B computes A's numbers
                      behind it, with a weight or another joined value in between; that of several
                      values of A which does so further is taken, and none where two do

What agrees with several values is settled by structure alone: the same operator on the same
weights and the same joined values. A name never settles it, for a tool may have moved it. Values
that are the same function of the same inputs (see ``digests``) are one value here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.core.tensors import Arrays
from exporter.graph.index import GraphIndex
from exporter.joining.by_value import Joiner
from exporter.joining.joined import Joined
from exporter.joining.roles import Roles

FLOAT32 = 1e-6
"""Relative rms distance in float64 of what two files compute alike; folded weights are float32."""


def join_graphs(
    expected: GraphIndex,
    actual: GraphIndex,
    inputs: Sequence[Arrays],
    folder: Path,
    *,
    inputs_of_actual: Mapping[str, str] | None = None,
    within: float = FLOAT32,
) -> Joined:
    """Join the values of ``actual`` with those of ``expected``.

    Args:
        inputs: two or more sets, by the names of ``expected``.
        folder: for values that memory has no room for.
        inputs_of_actual: input of ``actual`` -> input of ``expected``; the same names by default.
        within: relative rms distance of two values that are one; more than ``FLOAT32`` where a
            file is in a lower precision.

    Raises:
        ValueError: fewer than two sets of inputs.
    """
    if len(inputs) < 2:
        raise ValueError("one set of inputs proves nothing: give two")
    joiner = Joiner(expected, actual, inputs, folder, inputs_of_actual, within)
    joiner.match(joiner.b.order)
    joiner.check_outputs()
    Roles(joiner).find()
    joiner.drop_second_best()
    floating = [name for name in joiner.b.order if joiner.counts(name)]
    lost = [name for name in floating if name not in joiner.joins]
    return Joined(
        joins=tuple(joiner.joins[name] for name in joiner.b.order if name in joiner.joins),
        ambiguous=tuple(name for name in lost if name in joiner.ambiguous),
        alone=tuple(name for name in lost if name not in joiner.ambiguous),
        candidates=len(floating),
        missing=joiner.missing,
    )
