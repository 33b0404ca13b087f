"""Join the values of two files, each join proved by numbers; in doubt a value is not joined.

Every value of both files is computed in float64 on two or more sets of inputs.

    proved by value   a value of B agrees with one of A, and with no other that is not the same
    proved by role    it agrees with none; but fed A's numbers in its place, B computes A's numbers
                      behind it, with a weight or another joined value in between; that of several
                      values of A which does so further is taken, and none where two do

A file in a lower precision is computed without its roundings: in the real numbers that its integers
and short floats stand for (``graph.lowered``), its constants those of A that they were rounded
from (``restored``). What it computes then is A's own to the last digits, and nothing has to be
taken for near enough.

What agrees with several values is settled by structure alone: the same operator on the same
weights and the same joined values. A name never settles it, for a tool may have moved it. Values
that are the same function of the same inputs (see ``digests``) are one value here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from exporter.core.tensors import Arrays
from exporter.graph.index import GraphIndex
from exporter.graph.lowered.in_real_numbers import holds_less, unrounded
from exporter.joining.by_value import Joiner
from exporter.joining.covered import covered
from exporter.joining.decisions import decided_otherwise
from exporter.joining.evaluate import Values
from exporter.joining.joined import Joined
from exporter.joining.restored import restore
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
    exact: Values | None = None,
    inside: frozenset[str] = frozenset(),
) -> Joined:
    """Join the values of ``actual`` with those of ``expected``.

    Args:
        inputs: two or more sets, by the names of ``expected``.
        folder: for values that memory has no room for.
        inputs_of_actual: input of ``actual`` -> input of ``expected``; the same names by default.
        within: relative rms distance of two values that are one.
        exact: filled with the values of ``expected`` in float64, one array per set of inputs.
        inside: values of ``expected`` that its file has within single nodes; what agrees with
            another one is not joined with these.

    Raises:
        ValueError: fewer than two sets of inputs.
    """
    if len(inputs) < 2:
        raise ValueError("one set of inputs proves nothing: give two")
    restored, cut_off = None, frozenset[str]()
    plain, hidden, rounded = actual, frozenset[str](), frozenset[str]()
    if holds_less(actual) and not holds_less(expected):
        restored = restore(expected, unrounded(actual).stored)
        held = unrounded(actual, constants=restored.arrays)
        cut_off = held.cut_off
        plain, hidden, rounded = held.graph, held.hidden, held.as_stored
    joiner = Joiner(
        expected, plain, inputs, exact, folder, inputs_of_actual, within, hidden, rounded, inside
    )
    joiner.match(joiner.b.order)
    joiner.check_outputs()
    Roles(joiner).find()
    joiner.drop_second_best()
    floating = [name for name in joiner.b.order if joiner.counts(name)]
    lost = [name for name in floating if name not in joiner.joins]
    unknown = [name for name in joiner.b.order if name in joiner.missing]
    live = {held for name in plain.outputs for held in joiner.b.ancestors(name)}
    unseen = [n for n in (*lost, *unknown) if n in live and not joiner.is_seen(n, proved=False)]
    return Joined(
        joins=tuple(joiner.joins[name] for name in joiner.b.order if name in joiner.joins),
        ambiguous=tuple(name for name in lost if name in joiner.ambiguous),
        alone=tuple(name for name in lost if name not in joiner.ambiguous),
        candidates=len(floating),
        unseen=tuple(unseen),
        missing={name: why for name, why in joiner.missing.items() if name not in inside},
        restored=restored,
        otherwise=decided_otherwise(joiner, inputs),
        # Constants in a lower precision are others; what they cost is measured elsewhere.
        covered=covered(joiner) if restored is None else (),
        cut_off=frozenset(name for name in cut_off if _crosses_zero(joiner.values_b.get(name))),
    )


def _crosses_zero(arrays: Sequence[np.ndarray] | None) -> bool:
    return any(array.min(initial=0) < 0 < array.max(initial=0) for array in arrays or ())
