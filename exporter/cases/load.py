"""Cases of a pipeline -> arrays, one per input of the graph."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exporter.cases.audio import read_waveform
from exporter.cases.defaults import bound_sizes, default_array, example_sizes
from exporter.cases.draw import draw
from exporter.cases.steps import cut_calls
from exporter.config import Pipeline
from exporter.errors import ConfigError, UserInputError
from exporter.tensors import EMPTY, Case, TensorSpec

WAVEFORM = "waveform"


def choose_cases(
    pipeline: Pipeline, names: Sequence[str] | None, *, all_cases: bool = False
) -> tuple[str, ...]:
    """Names of the cases to run: those asked for, all of them, or the default one.

    Raises:
        UserInputError: a name is not a case of the pipeline.
    """
    known = [case.name for case in pipeline.cases]
    if all_cases:
        return tuple(known)
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise UserInputError(
                f"pipeline '{pipeline.name}' has no case '{name}'",
                where="--case",
                remedy=f"{hint}cases: {', '.join(known)}",
            )
    return tuple(dict.fromkeys(names)) if names else (pipeline.default_case,)


def load_cases(
    pipeline: Pipeline, inputs: tuple[TensorSpec, ...], names: Sequence[str]
) -> tuple[Case, ...]:
    """Load cases by name.

    Raises:
        ConfigError: a case lacks an input, names one that does not exist, or gives a value that
            is not valid for it.
        AudioError: a recording cannot be used.
    """
    positions = {case.name: index for index, case in enumerate(pipeline.cases)}
    return tuple(_load(pipeline, inputs, positions[name]) for name in names)


def _load(pipeline: Pipeline, inputs: tuple[TensorSpec, ...], position: int) -> Case:
    config = pipeline.cases[position]
    where = ("cases", position)
    specs = {spec.name: spec for spec in inputs}
    given = {*config.inputs, *(config.random or {})}
    for name in given - set(specs):
        key = "inputs" if name in config.inputs else "random"
        raise ConfigError(
            f"the graph has no input '{name}'",
            where=pipeline.where(*where, key, name),
            remedy=f"its inputs: {', '.join(specs)}",
        )
    arrays: dict[str, np.ndarray] = {}
    origin: list[str] = []
    sizes = example_sizes(pipeline)
    left: list[str] = []
    for name, spec in specs.items():
        if config.audio is not None and name == WAVEFORM:
            arrays[name] = _recording(config.audio, spec, pipeline.sample_rate_hz)
            origin.append(f"{config.audio.name} sha256:{_digest(arrays[name])}")
        elif config.random is not None and name in config.random:
            draws = pipeline.where(*where, "random", name)
            arrays[name] = _drawn(spec, config.random[name], sizes, draws)
            origin.append(f"{name}: {config.random[name].kind} seed {config.random[name].seed}")
        elif name in config.inputs:
            value = config.inputs[name]
            arrays[name] = _value(spec, value, pipeline.where(*where, "inputs", name))
        elif name == "waveform_lengths" and WAVEFORM in arrays:
            rows, samples = arrays[WAVEFORM].shape
            arrays[name] = np.full(rows, samples, np.int64)
        elif spec.initial is not None:
            arrays[name] = initial_state(spec, {**sizes, **_sizes(specs, arrays)})
        elif name in pipeline.inputs:
            left.append(name)
        elif spec.choices:
            raise ConfigError(
                f"case '{config.name}' gives no value for the input '{name}'",
                where=pipeline.where(*where, "inputs"),
                remedy=f"add '{name}:' with one of {', '.join(spec.choices)}",
            )
        else:
            raise ConfigError(
                f"case '{config.name}' gives no value for the input '{name}'",
                where=pipeline.where(*where),
                remedy=f"add it under 'inputs' or 'random' ({spec.dtype}, shape {spec.shape})",
            )
    for name in left:
        # A user's own input that the case leaves out, in the sizes of those that it gives.
        arrays[name] = default_array(pipeline, name, bound_sizes(pipeline, arrays, sizes))
        origin.append(f"{name}: as the pipeline's inputs say")
    first, *later = cut_calls(pipeline, position, {name: arrays[name] for name in specs}, specs)
    return Case(
        name=config.name,
        inputs=first,
        later=tuple(later),
        origin="; ".join(origin) or "values in the pipeline",
        expect_empty=frozenset(config.expect_empty),
    )


def initial_state(spec: TensorSpec, sizes: Mapping[str, int] = EMPTY) -> np.ndarray:
    """What an input that carries state holds before the first call.

    Args:
        sizes: of symbolic axes that other inputs decide (the batch); the others are minimal.
    """
    known = {**{axis.name: axis.minimum for axis in spec.axes}, **sizes}
    shape = tuple(known[size] if isinstance(size, str) else size for size in spec.shape)
    return np.full(shape, spec.initial, dtype=spec.dtype)


def _sizes(specs: Mapping[str, TensorSpec], arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {
        name: size
        for key, array in arrays.items()
        for name, size in zip(specs[key].shape, array.shape, strict=False)
        if isinstance(name, str)
    }


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(array, order="C").tobytes()).hexdigest()[:16]


def _recording(path: Path, spec: TensorSpec, sample_rate_hz: int) -> np.ndarray:
    waveform = read_waveform(path, sample_rate_hz)
    return waveform if len(spec.shape) == 1 else waveform[None, :]


def _drawn(spec: TensorSpec, config: Any, sizes: Mapping[str, int], where: str) -> np.ndarray:
    if config.shape is not None:
        shape = tuple(config.shape)
    elif config.sizes is not None or (sizes and config.num_samples is None):
        known = {**sizes, **(config.sizes or {})}
        missing = [s for s in spec.shape if isinstance(s, str) and s not in known]
        if missing:
            raise ConfigError(
                f"no size is given for the axis '{missing[0]}' of '{spec.name}'",
                where=where,
                remedy=f"add it under sizes; its shape is {list(spec.shape)}",
            )
        shape = tuple(known[s] if isinstance(s, str) else s for s in spec.shape)
    elif config.num_samples is not None:
        shape = (*(1 for _ in spec.shape[1:]), config.num_samples)
    else:
        shape = tuple(s for s in spec.shape if isinstance(s, int))
    return draw(config.kind, shape, config.seed, **config.options, dtype=spec.dtype)


def _value(spec: TensorSpec, value: Any, where: str) -> np.ndarray:
    if isinstance(value, str):
        if value not in spec.choices:
            near = difflib.get_close_matches(value, list(spec.choices), 1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise ConfigError(
                f"'{value}' is not a value of '{spec.name}'",
                where=where,
                remedy=f"{hint}valid: {', '.join(spec.choices) or 'numbers only'}",
            )
        value = spec.choices[value]
    elif spec.choices and value not in spec.choices.values():
        raise ConfigError(
            f"{value} is not a value of '{spec.name}'",
            where=where,
            remedy="valid: " + ", ".join(f"{k} ({v})" for k, v in spec.choices.items()),
        )
    return np.array(value, dtype=spec.dtype)


def with_size(case: Case, spec: TensorSpec, size: int) -> Case:
    """The same case with one input repeated or cut to ``size`` along its last axis."""
    array = case.inputs[spec.name]
    repeats = -(-size // max(array.shape[-1], 1))
    longer = np.concatenate([array] * repeats, axis=-1)[..., :size]
    inputs: Mapping[str, np.ndarray] = {**case.inputs, spec.name: longer}
    if "waveform_lengths" in inputs:
        inputs = {**inputs, "waveform_lengths": np.full(len(longer), size, np.int64)}
    return Case(
        name=f"{case.name}@{size}",
        inputs=inputs,
        origin=f"{case.origin}, {spec.name} repeated or cut to {size}",
        expect_empty=frozenset(),
    )
