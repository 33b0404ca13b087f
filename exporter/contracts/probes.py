"""Inputs that contracts are tried on, cut and changed from the cases of a target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exporter.contracts.target import Target, TimeAxis
from exporter.core.tensors import Arrays, TensorSpec

DEFAULT_STEPS = 64
_LONG = 2_000
DEFAULT_SAMPLES = 8_000
"""0.5 s at 16 kHz; long enough for several frames of every layer."""


def probe(target: Target, case: int = 0, size: int | None = None) -> dict[str, np.ndarray]:
    """Inputs of a case, cut (or repeated) to the size that probes use.

    Raises:
        IndexError: there is no such case.
    """
    inputs = dict(target.cases[case].entire)
    axis = target.time_axis()
    if axis is None:
        return inputs
    wanted = probe_steps(target, axis) if size is None else size
    return resize(target, _lively(target, inputs, axis, wanted), axis, wanted)


def _lively(target: Target, inputs: Arrays, axis: TimeAxis, size: int) -> Arrays:
    """Inputs that begin where something happens: what is constant cannot show anything.

    A recording often begins with digital silence that is longer than a probe, and a case may be
    nothing but silence. Then the probe begins just before the signal does, or is drawn.
    """
    signal = inputs[axis.input]
    at = axis.position
    if signal.dtype.kind not in "fiu" or not signal.size or signal.shape[at] < 2:
        return inputs
    start = np.take(signal, np.arange(min(size, signal.shape[at])), axis=at)
    if _changes(start, at).any():
        return inputs
    moving = np.flatnonzero(_changes(signal, at))
    if moving.size:
        begin = max(0, int(moving[0]) - size // 8)
        return {
            spec.name: np.roll(inputs[spec.name], -begin, axis=spec.shape.index(axis.name))
            if axis.name in spec.shape
            else inputs[spec.name]
            for spec in target.inputs
        }
    if signal.dtype.kind != "f":
        return inputs
    noise = np.random.Generator(np.random.PCG64(2)).standard_normal(signal.shape)
    level = float(np.abs(signal).max(initial=0.0)) or 0.1
    return {**inputs, axis.input: (noise * level).astype(signal.dtype)}


def _changes(signal: np.ndarray, along: int) -> np.ndarray:
    """Per step, whether it differs from the one before it anywhere."""
    moved = np.moveaxis(signal, along, 0).reshape(signal.shape[along], -1)
    return (moved[1:] != moved[:-1]).any(axis=1)


def probe_steps(target: Target, axis: TimeAxis) -> int:
    """Steps of the time axis that probes use."""
    have = target.cases[0].entire[axis.input].shape[axis.position]
    if target.probe_size is not None:
        return target.probe_size
    waveform = len(target.spec(axis.input).shape) - (target.batch is not None) == 1
    steps = min(have, DEFAULT_SAMPLES if waveform and have > 4000 else max(DEFAULT_STEPS, 1))
    return axis.near(steps)


def resize(target: Target, inputs: Arrays, axis: TimeAxis, size: int) -> dict[str, np.ndarray]:
    """The same inputs with ``size`` steps: cut, or repeated from the start.

    Every input that has the axis follows; lengths become ``size`` where they were full.
    """
    before = inputs[axis.input].shape[axis.position]
    changed: dict[str, np.ndarray] = {}
    for spec in target.inputs:
        array = inputs[spec.name]
        if axis.name in spec.shape:
            position = spec.shape.index(axis.name)
            indices = np.arange(size) % max(before, 1)
            if before:
                array = np.take(array, indices, axis=position)
            else:
                # A state that is empty before the first call: there is nothing to repeat.
                array = np.zeros(
                    (*array.shape[:position], size, *array.shape[position + 1 :]), array.dtype
                )
        changed[spec.name] = np.array(array, copy=True)
    for name in {target.lengths.get(s.name) for s in target.inputs if axis.name in s.shape}:
        if name is not None and np.issubdtype(changed[name].dtype, np.integer):
            full = changed[name] >= before
            changed[name] = np.where(full, size, np.minimum(changed[name], size)).astype(
                changed[name].dtype
            )
    return changed


def short_probe(target: Target, share: int = 4) -> dict[str, np.ndarray]:
    """A quarter of the probe, for what is expensive; the whole of it where it is short."""
    inputs = probe(target)
    axis = target.time_axis()
    if axis is None:
        return inputs
    size = short_steps(axis, inputs[axis.input].shape[axis.position], share)
    return resize(target, inputs, axis, size)


def short_steps(axis: TimeAxis, steps: int, share: int) -> int:
    """A part of ``steps`` where they are many, as samples are."""
    return steps if steps < _LONG else axis.near(steps // share)


def other_future(
    target: Target, inputs: Arrays, axis: TimeAxis, start: int, *, scale: float, seed: int = 1
) -> dict[str, np.ndarray]:
    """Same shapes, same values before ``start``, other finite values from there on.

    Args:
        scale: how much larger than the input's own values the new ones are.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    changed = {name: np.array(array, copy=True) for name, array in inputs.items()}
    for spec in target.inputs:
        if axis.name not in spec.shape or spec.name in target.lengths.values():
            continue
        position = spec.shape.index(axis.name)
        index = [slice(None)] * len(spec.shape)
        index[position] = slice(start, None)
        part = changed[spec.name][tuple(index)]
        changed[spec.name][tuple(index)] = replaced(part, spec, generator, scale)
    return changed


def is_option(spec: TensorSpec, array: np.ndarray) -> bool:
    """One number that is no signal, as a sample rate is: which others are valid nobody says."""
    return array.size == 1 and array.dtype.kind in "iu" and not (spec.choices or spec.axes)


def replaced(
    part: np.ndarray, spec: TensorSpec, generator: np.random.Generator, scale: float
) -> np.ndarray:
    """Values that differ from ``part``: random of a multiple of its size, or other valid ids."""
    if part.dtype == bool:
        return ~part
    if np.issubdtype(part.dtype, np.integer):
        valid = sorted(spec.choices.values()) or list(range(int(part.max(initial=1)) + 1))
        return generator.choice(np.array(valid, dtype=part.dtype), size=part.shape)
    peak = float(np.abs(part.astype(np.float64)).max(initial=0.0)) or 1.0
    values = generator.standard_normal(part.shape) * peak * scale
    return (values + np.sign(values) * peak * scale).astype(part.dtype)


def stack_rows(target: Target, rows: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """One batch of inputs that each have one row; shapes must be equal."""
    joined: dict[str, np.ndarray] = {}
    for spec in target.inputs:
        position = target.batch_position(spec.name)
        parts = [row[spec.name] for row in rows]
        joined[spec.name] = parts[0] if position is None else np.concatenate(parts, axis=position)
    return joined


def take_row(target: Target, inputs: Arrays, row: int) -> dict[str, np.ndarray]:
    """One row of a batch, as a batch of one."""
    picked: dict[str, np.ndarray] = {}
    for spec in target.inputs:
        position = target.batch_position(spec.name)
        array = inputs[spec.name]
        picked[spec.name] = array if position is None else np.take(array, [row], axis=position)
    return picked
