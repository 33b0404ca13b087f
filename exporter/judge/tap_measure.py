"""Measure one tap of a walk: whole, or in slices where it is too large for float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exporter.execution.lockstep import TapValues
from exporter.interpret.sliced_linear import LinearSlices
from exporter.parity.compare import accumulate, measure, measure_exact, same_bits
from exporter.parity.measurement import Distance, Measurement, Role
from exporter.parity.tolerance import natural_scale


def measure_tap(values: TapValues) -> tuple[Measurement, Measurement]:
    """Local and propagated measurement of a tap."""
    tap = values.planned
    name, role = tap.tap.name, ("output" if tap.output else "inner")
    scale = natural_scale(values.shown)
    if values.slices is not None:
        local, free = _measure_slices(values, values.slices, role, scale)
        return _explained(local, values), _explained(free, values)
    free = _measure(name, values.truth_free, values.reference, values.free, role, scale)
    return measure_local(values), _explained(free, values)


def measure_local(values: TapValues) -> Measurement:
    """Local measurement of a tap that is not measured in slices."""
    tap = values.planned
    name, role = tap.tap.name, ("output" if tap.output else "inner")
    if values.exact or values.reference.dtype.kind in "biu":
        expected = values.reference if values.moved is None else values.moved
        found = measure_exact(name, expected, values.forced, role)
    else:
        scale = natural_scale(values.shown)
        found = _measure(name, values.truth_local, values.reference, values.forced, role, scale)
    return _explained(found, values)


def is_rearranged(values: TapValues) -> bool:
    """True when ONNX holds here, bit for bit, what it held in front, rearranged."""
    held = values.rearranged
    return held is not None and values.free is not None and same_bits(held.expected, values.free)


def rearranged_free(values: TapValues, source: Measurement) -> Measurement:
    """The propagated measurement of a rearranged tap: that of its source, at other places."""
    tap, held = values.planned, values.rearranged
    if held is None:
        raise ValueError(f"'{tap.tap.name}' rearranges nothing")

    def place(distance: Distance | None) -> Distance | None:
        if distance is None or distance.worst_index is None:
            return distance
        return replace(distance, worst_index=held.place(distance.worst_index))

    return replace(
        source,
        name=tap.tap.name,
        role="output" if tap.output else "inner",
        shape_expected=held.after,
        shape_actual=held.after,
        shape_stored=values.stored,
        natural_scale=natural_scale(values.shown),
        actual=place(source.actual),
        reference=place(source.reference),
        direct=place(source.direct),
    )


def _measure_slices(
    values: TapValues, slices: LinearSlices, role: Role, scale: float | None
) -> tuple[Measurement, Measurement]:
    """Local and free measurement of a tap whose float64 values come some rows at a time."""
    name, reference = values.planned.tap.name, values.reference
    if any(a is None or a.shape != reference.shape for a in (values.free, values.forced)):
        empty = np.empty(0)
        return (
            _measure(name, empty, reference, values.forced, role, scale),
            _measure(name, empty, reference, values.free, role, scale),
        )
    local, free = [], []
    for part in slices.parts(reference, values.free, values.forced):
        local.append(_measure(name, part.truth_local, part.reference, part.forced, role, scale))
        free.append(_measure(name, part.truth_free, part.reference, part.free, role, scale))
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
    name: str,
    truth: np.ndarray | None,
    reference: np.ndarray,
    actual: np.ndarray | None,
    role: Role,
    scale: float | None,
) -> Measurement:
    return measure(
        name,
        truth=truth,
        reference=reference,
        actual=actual,
        role=role,
        natural_scale=scale,
    )


def _explained(measured: Measurement, values: TapValues) -> Measurement:
    if values.stored is not None and measured.problem is None:
        return replace(measured, shape_stored=values.stored)
    if values.stopped is None or measured.problem is None or measured.dtype_actual is not None:
        return measured
    return replace(measured, problem=f"{measured.problem}: onnxruntime stopped: {values.stopped}")
