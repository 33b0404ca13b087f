"""Which input of a graph takes the recording of a case, and the recording in that input's shape.

``audio: {file: x.wav, input: samples}`` names it. ``audio: x.wav`` alone means the input called
``waveform``; without one, the only input of floats that has an axis of samples and nothing else:

    [num_samples]    [batch, num_samples]    [batch, 1, num_samples]

None or several of these are an error: a recording that nobody reads is not a test.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from exporter.cases.audio import read_any_rate, read_waveform
from exporter.cases.resample import sinc
from exporter.config.inputs import Case
from exporter.core.errors import ConfigError
from exporter.core.tensors import BATCH_NAMES, TensorSpec

WAVEFORM = "waveform"
_FLOATS = ("float16", "float32", "float64")
_MOST_AXES = 3


def recorded_input(
    case: Case, specs: Mapping[str, TensorSpec], where: str, *, states: Collection[str] = ()
) -> TensorSpec | None:
    """The input that takes the recording of ``case``; ``None`` for a case without one.

    Args:
        specs: of the graph's inputs, by name.
        where: of the key ``audio``, for messages.
        states: inputs that carry state.

    Raises:
        ConfigError: no input can take it, several could, or the one that is named cannot.
    """
    if case.recording is None:
        return None
    named = case.recorded_input
    if named is None and WAVEFORM in specs:
        named = WAVEFORM
    if named is not None:
        return _named(named, case, specs, where)
    candidates = [
        spec
        for name, spec in specs.items()
        if _has_samples(spec) and name not in {*case.inputs, *states} and spec.initial is None
    ]
    if len(candidates) == 1:
        return candidates[0]
    listed = ", ".join(f"{name} {list(spec.shape)}" for name, spec in specs.items())
    if not candidates:
        raise ConfigError(
            "no input takes a recording",
            where=where,
            remedy="give 'random' values, or a graph with an input of floats of shape "
            f"[num_samples], [batch, num_samples] or [batch, 1, num_samples]; inputs: {listed}",
        )
    names = ", ".join(spec.name for spec in candidates)
    raise ConfigError(
        f"several inputs could take the recording: {names}",
        where=where,
        remedy=f"name it: audio: {{file: {case.recording.name}, input: {candidates[0].name}}}",
    )


def recorded_array(
    path: Path, spec: TensorSpec, sample_rate_hz: int, rows: int, *, resample: bool = False
) -> np.ndarray:
    """The recording as ``spec`` wants it: every axis but that of the samples is 1 or ``rows``.

    Args:
        resample: bring another sample rate to the pipeline's; without it, it is refused.

    Raises:
        AudioError: it cannot be used, see ``read_waveform``.
    """
    if resample:
        recording, found_hz = read_any_rate(path)
        samples = (
            recording if found_hz == sample_rate_hz else sinc(recording, found_hz, sample_rate_hz)
        )
    else:
        samples = read_waveform(path, sample_rate_hz)
    along = _samples_axis(spec)
    shape = [rows if isinstance(size, str) else 1 for size in spec.shape]
    shape[along] = len(samples)
    placed = samples.reshape([-1 if k == along else 1 for k in range(len(shape))])
    return np.ascontiguousarray(np.broadcast_to(placed, shape), dtype=spec.dtype)


def _named(name: str, case: Case, specs: Mapping[str, TensorSpec], where: str) -> TensorSpec:
    spec = specs.get(name)
    if spec is None:
        raise ConfigError(
            f"the graph has no input '{name}'",
            where=where,
            remedy=f"its inputs: {', '.join(specs)}",
        )
    if name in case.inputs:
        raise ConfigError(
            f"'{name}' takes the recording and has a value under 'inputs'",
            where=where,
            remedy="give one of the two",
        )
    if not takes_mono(spec):
        raise ConfigError(
            f"'{name}' ({spec.dtype}, shape {list(spec.shape)}) cannot take a recording",
            where=where,
            remedy="a mono recording goes into float16, float32 or float64 of shape [num_samples],"
            " [batch, num_samples] or [batch, 1, num_samples]",
        )
    return spec


def takes_mono(spec: TensorSpec) -> bool:
    """Floats, one axis of samples, and every other axis a batch or of one element."""
    if spec.dtype not in _FLOATS or not 1 <= len(spec.shape) <= _MOST_AXES:
        return False
    rest = [size for k, size in enumerate(spec.shape) if k != _samples_axis(spec)]
    return all(size == 1 or isinstance(size, str) for size in rest)


def seconds_of(
    inputs: Mapping[str, np.ndarray], specs: Mapping[str, TensorSpec], sample_rate_hz: int
) -> float | None:
    """How long the sound is that one run takes, its rows added up; None where it takes none."""
    recorded = [name for name in inputs if name in specs and _has_samples(specs[name])]
    name = WAVEFORM if WAVEFORM in recorded else recorded[0] if len(recorded) == 1 else None
    return None if name is None else np.asarray(inputs[name]).size / sample_rate_hz


def _has_samples(spec: TensorSpec) -> bool:
    """As ``takes_mono``, with a last axis that varies and is no batch: what needs no name."""
    if not takes_mono(spec) or _samples_axis(spec) != len(spec.shape) - 1:
        return False
    last, rest = spec.shape[-1], spec.shape[:-1]
    varies = isinstance(last, str) and last not in BATCH_NAMES
    return varies and all(size == 1 or size in BATCH_NAMES for size in rest)


def _samples_axis(spec: TensorSpec) -> int:
    """The last axis that varies and is no batch; without one the last that is not 1."""
    varying = [
        k for k, size in enumerate(spec.shape) if isinstance(size, str) and size not in BATCH_NAMES
    ]
    axes = varying or [k for k, size in enumerate(spec.shape) if isinstance(size, int) and size > 1]
    return axes[-1] if axes else len(spec.shape) - 1
