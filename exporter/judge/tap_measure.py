"""Measure the taps of a walk, whole or in slices where one is too large for float64.

A measurement says as well what the file holds at its tap, and what that costs there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from exporter.core.tensors import COMPARED, PlannedTap
from exporter.execution.tap_values import TapValues
from exporter.graph.node_formats import HeldPrecision
from exporter.graph.program import Program
from exporter.interpret.format_cost import Costs, held_of_ops
from exporter.interpret.sliced_linear import LinearSlices
from exporter.interpret.stored_weights import wrong_weights
from exporter.parity.compare import measure, measure_exact, same_bits
from exporter.parity.measurement import Distance, Measurement, Role
from exporter.parity.merge import accumulate
from exporter.parity.tolerance import Policy, declared_formats, natural_scale

_BEYOND = 1.2
"""Healthy pieces are within the worst of a few draws, or hardly beyond it."""


class TapMeasure:
    """Measures the taps of one file.

    Args:
        precision: of the file, cut at its compared taps.
        policy: what is declared. A model that is in that format itself has it in its file as well.
    """

    def __init__(
        self,
        program: Program,
        precision: HeldPrecision,
        planned: Sequence[PlannedTap],
        policy: Policy,
    ):
        native = declared_formats(policy)
        compared = [tap for tap in planned if tap.fate == COMPARED]
        self._in_piece = {tap.tap.name: precision.of(tap.onnx_name).formats for tap in compared}
        self._in_front = {tap.tap.name: precision.behind(tap.onnx_name, native) for tap in compared}
        self.held_of_ops = held_of_ops(program, precision, planned)
        """What the file holds where it computes an op of the program."""
        self._weights = wrong_weights(program, self.held_of_ops, planned)

    def both(self, values: TapValues, costs: Costs) -> tuple[Measurement, Measurement]:
        """Local and propagated measurement of a tap."""
        if values.slices is None:
            free = _measure(values, values.truth_free, values.reference, values.free)
            return self.local(values, costs), self._of_free_run(values, free, costs)
        local, free = _measure_slices(values, values.slices)
        return self._of_piece(values, local, costs), self._of_free_run(values, free, costs)

    def local(self, values: TapValues, costs: Costs) -> Measurement:
        """Local measurement of a tap that is not measured in slices."""
        return self._of_piece(values, _local(values), costs)

    def decided_on(
        self, tap: PlannedTap, sources: Sequence[str], costs: Costs, *, free: bool
    ) -> tuple[tuple[str, ...], float]:
        """Formats in front of a decision, and how far they may move what it is taken on.

        Args:
            sources: names of the values that are decided on.
            free: in a free run; else by the piece alone, whose compared sources are PyTorch's.
        """
        formats = (self._in_front if free else self._in_piece)[tap.tap.name]
        table = costs.free if free else costs.local
        names = [name for name in sources if name in table]
        names = names if free else [name for name in names if name not in self._in_piece]
        return formats, max((table[name].max_abs or 0.0 for name in names), default=0.0)

    def rearranged(self, values: TapValues, source: Measurement, costs: Costs) -> Measurement:
        """Propagated measurement of a tap that rearranges another one's value."""
        return self._told_free(values.planned, _rearranged_free(values, source), costs)

    def _of_piece(self, values: TapValues, measured: Measurement, costs: Costs) -> Measurement:
        tap = values.planned
        formats, cost = self._in_piece[tap.tap.name], costs.local.get(tap.tap.name)
        told = _told(_explained(measured, values), formats, cost)
        wrong = self._weights.wrong.get(tap.tap.name)
        if wrong is None and _beyond_cost(told):
            wrong = self._weights.scaled.get(tap.tap.name)
        return told if wrong is None or told.problem else replace(told, problem=wrong)

    def _of_free_run(self, values: TapValues, measured: Measurement, costs: Costs) -> Measurement:
        return self._told_free(values.planned, _explained(measured, values), costs)

    def _told_free(self, tap: PlannedTap, measured: Measurement, costs: Costs) -> Measurement:
        return _told(measured, self._in_front[tap.tap.name], costs.free.get(tap.tap.name))


def _told(measured: Measurement, formats: tuple[str, ...], cost: Distance | None) -> Measurement:
    if measured.kind == "discrete":
        return measured
    known = cost if cost is not None and cost.max_abs is not None else None
    return replace(measured, held=formats, cost=known)


def _beyond_cost(m: Measurement) -> bool:
    """Further off than any draw of what its formats cost, if not by so much that it fails."""
    if m.actual is None or m.cost is None or m.actual.max_abs is None or m.cost.max_abs is None:
        return False
    return m.actual.max_abs > _BEYOND * m.cost.max_abs


def _local(values: TapValues) -> Measurement:
    if values.exact or values.reference.dtype.kind in "biu":
        expected = values.reference if values.moved is None else values.moved
        tap = values.planned
        return measure_exact(tap.tap.name, expected, values.forced, _role(tap))
    return _measure(values, values.truth_local, values.reference, values.forced)


def measure_tap(
    tap: PlannedTap,
    *,
    truth: np.ndarray,
    reference: np.ndarray,
    actual: np.ndarray,
    shown: str,
    exact: bool = False,
) -> Measurement:
    """Measure one value of a tap, wherever it comes from.

    Args:
        shown: the op whose results it shows. exact: every bit must be the reference's.
    """
    name, role = tap.tap.name, _role(tap)
    if exact or reference.dtype.kind in "biu":
        return measure_exact(name, reference, actual, role)
    yard = {"truth": truth, "reference": reference, "natural_scale": natural_scale(shown)}
    return measure(name, actual=actual, role=role, **yard)


def _role(tap: PlannedTap) -> Role:
    return "output" if tap.output else "inner"


def is_rearranged(values: TapValues) -> bool:
    """True when ONNX holds here, bit for bit, what it held in front, rearranged."""
    rearranged = values.rearranged
    return (
        rearranged is not None
        and values.free is not None
        and same_bits(rearranged.expected, values.free)
    )


def _rearranged_free(values: TapValues, source: Measurement) -> Measurement:
    """The propagated measurement of a rearranged tap: that of its source, at other places."""
    tap, rearranged = values.planned, values.rearranged
    if rearranged is None:
        raise ValueError(f"'{tap.tap.name}' rearranges nothing")

    def place(distance: Distance | None) -> Distance | None:
        if distance is None or distance.worst_index is None:
            return distance
        return replace(distance, worst_index=rearranged.place(distance.worst_index))

    return replace(
        source,
        name=tap.tap.name,
        role=_role(tap),
        shape_expected=rearranged.after,
        shape_actual=rearranged.after,
        shape_stored=values.stored,
        natural_scale=natural_scale(values.shown),
        actual=place(source.actual),
        reference=place(source.reference),
        direct=place(source.direct),
    )


def _measure_slices(values: TapValues, slices: LinearSlices) -> tuple[Measurement, Measurement]:
    """Local and free measurement of a tap whose float64 values come some rows at a time."""
    reference = values.reference
    if any(a is None or a.shape != reference.shape for a in (values.free, values.forced)):
        empty = np.empty(0)
        return (
            _measure(values, empty, reference, values.forced),
            _measure(values, empty, reference, values.free),
        )
    local, free = [], []
    for part in slices.parts(reference, values.free, values.forced):
        local.append(_measure(values, part.truth_local, part.reference, part.forced))
        free.append(_measure(values, part.truth_free, part.reference, part.free))
    shape = reference.shape
    return _unflatten(accumulate(local), shape), _unflatten(accumulate(free), shape)


def _unflatten(measured: Measurement, shape: tuple[int, ...]) -> Measurement:
    """Give a measurement over rows the shape and the places of the whole tensor."""

    def place(distance: Distance | None) -> Distance | None:
        if distance is None or distance.worst_index is None:
            return distance
        row, column = distance.worst_index
        index = (*(int(i) for i in np.unravel_index(row, shape[:-1])), column)
        return replace(distance, worst_index=index)

    return replace(
        measured,
        shape_expected=shape,
        shape_actual=shape,
        actual=place(measured.actual),
        reference=place(measured.reference),
        direct=place(measured.direct),
    )


def _measure(
    values: TapValues,
    truth: np.ndarray | None,
    reference: np.ndarray,
    actual: np.ndarray | None,
) -> Measurement:
    return measure(
        values.planned.tap.name,
        truth=truth,
        reference=reference,
        actual=actual,
        role=_role(values.planned),
        natural_scale=natural_scale(values.shown),
    )


def _explained(measured: Measurement, values: TapValues) -> Measurement:
    if values.stored is not None and measured.problem is None:
        return replace(measured, shape_stored=values.stored)
    if values.stopped is None or measured.problem is None or measured.dtype_actual is not None:
        return measured
    return replace(measured, problem=f"{measured.problem}: onnxruntime stopped: {values.stopped}")
