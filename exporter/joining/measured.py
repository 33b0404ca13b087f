"""Measure every joined value of two files on one case: alone, and in a free run.

truth       the expected file in float64
reference   the expected file in float32, as it is: its distance to the truth is what float32
            costs
local       the actual file, fed the reference at every joined value
propagated  the actual file on its own values
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_windows import OnnxWindows
from exporter.graph.index import GraphIndex
from exporter.joining.evaluate import Values, evaluate
from exporter.joining.joined import Join, Joined
from exporter.parity.compare import measure
from exporter.parity.measurement import Measurement
from exporter.parity.tolerance import natural_scale

_WINDOW = 200
"""Values in one window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A joined value on one case; None where onnxruntime has stopped."""

    join: Join
    local: Measurement
    propagated: Measurement


def measure_joined(
    expected: GraphIndex,
    actual: GraphIndex,
    joined: Joined,
    inputs: Arrays,
    folder: Path,
    *,
    inputs_of_actual: Mapping[str, str],
    deployment: Deployment,
) -> list[Measured]:
    """Measure the joined values of two files, in the order of the actual one.

    Args:
        inputs: one case, by the names of ``expected``. folder: for what memory has no room for.
        inputs_of_actual: input of ``actual`` -> input of ``expected``.
        deployment: how both are run in windows.
    """
    joins = [join for join in joined.joins if join.expected in expected.producer]
    cut = _names(expected, joins, "expected")
    reference = _free(expected, inputs, cut, deployment)
    truth_free = evaluate(expected, [inputs], Values(folder)).values
    forced = {name: [array] for name, array in reference.items()}
    truth_local = evaluate(expected, [inputs], Values(folder), forced=forced).values
    theirs = {name: inputs[ours] for name, ours in inputs_of_actual.items()}
    own = _names(actual, joins, "actual")
    free = _free(actual, theirs, own, deployment)
    by_name = {join.actual: join for join in joins}

    def supply(name: str) -> np.ndarray:
        join, held = by_name[name], free[name]
        return join.layout.apply(reference[join.expected], held.shape).astype(held.dtype)

    usable = [n for n in own if n in free and by_name[n].expected in reference]
    local = _forced(actual, theirs, own, frozenset(usable), supply, deployment)
    found = []
    for join in joins:
        alone = _measure(actual, join, truth_local, reference, local)
        along = _measure(actual, join, truth_free, reference, free)
        found.append(Measured(join=join, local=alone, propagated=along))
    return found


def _names(graph: GraphIndex, joins: Sequence[Join], side: str) -> list[str]:
    order = {name: at for at, name in enumerate(n for node in graph.nodes for n in node.output)}
    return sorted({getattr(join, side) for join in joins}, key=lambda name: order[name])


def _free(
    graph: GraphIndex, inputs: Arrays, names: Sequence[str], deployment: Deployment
) -> dict[str, np.ndarray]:
    walk = OnnxWindows(graph, inputs, deployment, taps=frozenset(names))
    return _walked(walk, names)


def _forced(
    graph: GraphIndex,
    inputs: Arrays,
    names: Sequence[str],
    fed: frozenset[str],
    supply: object,
    deployment: Deployment,
) -> dict[str, np.ndarray]:
    walk = OnnxWindows(
        graph,
        inputs,
        deployment,
        taps=frozenset(names),
        forced=fed,
        supply=supply,  # type: ignore[arg-type]
    )
    return _walked(walk, [name for name in names if name in fed])


def _walked(walk: OnnxWindows, names: Sequence[str]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(names), _WINDOW):
        last = start + _WINDOW >= len(names)
        found |= walk.advance(names[start : start + _WINDOW], last=last)
    return found


def _measure(
    actual: GraphIndex,
    join: Join,
    truth: Values,
    reference: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
) -> Measurement:
    ours, theirs = reference.get(join.expected), found.get(join.actual)
    exact = truth.get(join.expected)
    stored = None
    if ours is not None and theirs is not None and theirs.size == ours.size:
        stored = theirs.shape if theirs.shape != ours.shape else None
        theirs = join.layout.undo(np.asarray(theirs), ours.shape)
    op = (
        actual.nodes[actual.producer[join.actual]].op_type if join.actual in actual.producer else ""
    )
    output = join.actual in actual.outputs
    measured = measure(
        join.actual,
        truth=None if exact is None else exact[0],
        reference=ours,
        actual=theirs,
        role="output" if output else "inner",
        natural_scale=natural_scale(op),
    )
    return measured if stored is None else replace(measured, shape_stored=stored)
