"""Measure every joined value of two files on one case: alone, and in a free run.

truth       the expected file in float64
reference   the expected file in float32, as it is: its distance to the truth is what float32
            costs
local       the actual file, fed the reference at every joined value
propagated  the actual file on its own values
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnx import helper

from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_windows import OnnxWindows
from exporter.graph.index import GraphIndex
from exporter.graph.subgraph import Partition
from exporter.joining.alike import Alike, alike
from exporter.joining.evaluate import Values, evaluate
from exporter.joining.format_costs import FormatCosts
from exporter.joining.joined import Join, Joined
from exporter.parity.compare import measure
from exporter.parity.measurement import Measurement
from exporter.parity.tolerance import natural_scale

_WINDOW = 200
"""Values in one window."""
IN_MEMORY = 1 << 28
"""Bytes of one side's values that are held in memory; there are five sides."""
FILES = ("the other file", "this file")
"""What the truth and the judged file are called where a value of the latter is spoken of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A joined value on one case.

    Attributes:
        local: alone; None where both files have the same nodes there, from the nearest joined
            values on: fed the same they give the same, and nothing is measured.
        propagated: in a free run.
    """

    join: Join
    local: Measurement | None
    propagated: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class BothFiles:
    """Both files on one case.

    Attributes:
        values: the joined values, in the order of the actual file.
        reference: outputs of the expected file in float32, by name.
        costs: what the formats of the actual file cost; None where it holds none.
    """

    values: list[Measured]
    reference: Mapping[str, np.ndarray]
    costs: FormatCosts | None


def measure_joined(
    expected: GraphIndex,
    actual: GraphIndex,
    joined: Joined,
    inputs: Arrays,
    exact: Callable[[str], np.ndarray | None],
    folder: Path,
    *,
    inputs_of_actual: Mapping[str, str],
    deployment: Deployment,
    same: Alike | None = None,
) -> BothFiles:
    """Measure the joined values of two files.

    Args:
        inputs: one case, by the names of ``expected``. folder: for what memory has no room for.
        exact: gives a value of ``expected`` in float64 on this case.
        inputs_of_actual: input of ``actual`` -> input of ``expected``.
        deployment: how both are run in windows.
        same: what both compute with the same nodes; found here by default.
    """
    same = same or alike(expected, actual, joined, inputs_of_actual)
    joins = [join for join in joined.joins if join.expected in expected.producer]
    cut = _names(expected, joins, "expected")
    cut += [name for name in expected.outputs if name in expected.producer and name not in cut]
    reference = _walked(_windows(expected, inputs, deployment, cut), cut, folder)
    by_name = {join.actual: join for join in joins}
    own = _names(actual, joins, "actual")
    theirs = inputs_for(actual, inputs, inputs_of_actual)
    given = {name for name in same.whole if by_name[name].expected in reference}

    def ours(name: str) -> np.ndarray:
        return _known(reference, by_name[name].expected)

    walk = _windows(actual, theirs, deployment, own, frozenset(given), ours)
    free = _walked(walk, [name for name in own if name not in given], folder)
    for name in given:
        free.share(name, reference, by_name[name].expected)

    def laid_out(name: str) -> np.ndarray:
        join = by_name[name]
        return join.layout.apply(_known(reference, join.expected), _known(free, name).shape)

    def supply(name: str) -> np.ndarray:
        return laid_out(name).astype(_known(free, name).dtype)

    usable = [n for n in own if n in free and by_name[n].expected in reference]
    # Of what a file decides otherwise there may be more, or less: its readers keep their own.
    fed = [n for n in usable if _known(free, n).size == _known(reference, by_name[n].expected).size]
    # Where a value is missing, those behind it are not fed what the other file's are.
    known = same.local if len(fed) == len(own) else frozenset()
    walk = _windows(actual, theirs, deployment, own, frozenset(fed), supply)
    local = _walked(walk, [name for name in usable if name not in known], folder)
    asked = [join.expected for join in joins if join.actual not in known]
    nodes = Partition(expected, stops=frozenset(cut)).take(asked)
    truth = Values(folder, bound=IN_MEMORY)
    forced = _Fed({name: name for name in cut}, reference.one)
    evaluate(expected, [inputs], truth, nodes=nodes, forced=forced)
    costs = None
    if joined.restored is not None:
        costs = FormatCosts(
            expected, actual, joined.restored, theirs, _Fed(dict.fromkeys(fed), laid_out), folder
        )
    measurements = []
    for join in joins:
        alone = None
        if join.actual not in known:
            alone = _measure(actual, join, truth.one(join.expected), reference, local)
        along = _measure(actual, join, exact(join.expected), reference, free)
        if costs is not None:
            alone, along = costs.tell(join, alone, along)
        measurements.append(Measured(join=join, local=alone, propagated=along))
    outputs = {name: _known(reference, name) for name in expected.outputs if name in reference}
    return BothFiles(values=measurements, reference=outputs, costs=costs)


def inputs_for(actual: GraphIndex, inputs: Arrays, names: Mapping[str, str]) -> Arrays:
    """The inputs by the actual file's names, in its dtypes.

    Args:
        names: input of ``actual`` -> input of the other file.
    """
    kinds = {v.name: v.type.tensor_type.elem_type for v in actual.model.graph.input}
    arrays = {}
    for name, ours in names.items():
        array = np.asarray(inputs[ours])
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kinds[name]))
        arrays[name] = array.astype(dtype) if array.dtype.kind == "f" else array
    return arrays


class _Fed(Mapping[str, Sequence[np.ndarray]]):
    """Values that are fed, read when they are asked for."""

    def __init__(self, names: Mapping[str, object], read: Callable[[str], np.ndarray | None]):
        self._names, self._read = names, read

    def __getitem__(self, name: str) -> Sequence[np.ndarray]:
        arrays = self._read(name) if name in self._names else None
        if arrays is None:
            raise KeyError(name)
        return [arrays]

    def __iter__(self):
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _known(values: Values, name: str) -> np.ndarray:
    array = values.one(name)
    if array is None:
        raise KeyError(name)
    return array


def _names(graph: GraphIndex, joins: Sequence[Join], side: str) -> list[str]:
    order = {name: at for at, name in enumerate(n for node in graph.nodes for n in node.output)}
    return sorted({getattr(join, side) for join in joins}, key=lambda name: order[name])


def _windows(
    graph: GraphIndex,
    inputs: Arrays,
    deployment: Deployment,
    names: Sequence[str],
    fed: frozenset[str] = frozenset(),
    supply: Callable[[str], np.ndarray] | None = None,
) -> OnnxWindows:
    taps = frozenset(names)
    return OnnxWindows(graph, inputs, deployment, taps=taps, forced=fed, supply=supply, sparse=True)


def _walked(walk: OnnxWindows, names: Sequence[str], folder: Path) -> Values:
    values = Values(folder, bound=IN_MEMORY)
    for start in range(0, len(names), _WINDOW):
        last = start + _WINDOW >= len(names)
        for name, array in walk.advance(names[start : start + _WINDOW], last=last).items():
            values.put(name, [array])
    return values


def _measure(
    actual: GraphIndex, join: Join, exact: np.ndarray | None, reference: Values, values: Values
) -> Measurement:
    ours, theirs = reference.one(join.expected), values.one(join.actual)
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
        truth=exact,
        reference=ours,
        actual=theirs,
        role="output" if output else "inner",
        natural_scale=natural_scale(op),
        sides=FILES,
    )
    return measured if stored is None else replace(measured, shape_stored=stored)
