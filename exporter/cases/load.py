"""Cases of a pipeline -> arrays, one per input of the graph."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from exporter.cases.audio_input import WAVEFORM, recorded_array, recorded_input
from exporter.cases.check_names import check_names
from exporter.cases.check_sizes import check_elements, check_limits, check_values
from exporter.cases.defaults import LENGTHS, default_array, example_sizes
from exporter.cases.draw import draw
from exporter.cases.file_input import file_array
from exporter.cases.steps import cut_calls
from exporter.cases.windows import STEPS, cut_stream, whole_specs
from exporter.cases.written_values import check_shapes, filled, value_array
from exporter.config import Pipeline
from exporter.config.inputs import FileInput
from exporter.core.errors import ConfigError, UserInputError
from exporter.core.tensors import BATCH_NAMES, EMPTY, Case, TensorSpec
from exporter.core.windows import Streamed


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
                remedy=f"{hint}its cases: {', '.join(known)}",
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
    specs = {spec.name: spec for spec in inputs}
    loaded = tuple(_load(pipeline, specs, positions[name]) for name in names)
    for number in range(len(pipeline.cases)):  # also those that are not run
        given = _given_specs(pipeline, specs, number)
        check_names(pipeline, given, number)
        _recorded(pipeline, given, number)
    return loaded


def _load(pipeline: Pipeline, graph: Mapping[str, TensorSpec], position: int) -> Case:
    config = pipeline.cases[position]
    where = ("cases", position)
    stream = config.stream
    specs = _given_specs(pipeline, graph, position)
    check_names(pipeline, specs, position)
    places = {name: pipeline.where(*where) for name in specs}
    places |= {name: pipeline.where(*where, "random", name) for name in config.random or {}}
    places |= {name: pipeline.where(*where, "inputs", name) for name in config.inputs}
    recorded = _recorded(pipeline, specs, position)
    origin: dict[str, str] = {}
    written: dict[str, np.ndarray] = {}
    for name, value in config.inputs.items():
        if isinstance(value, FileInput):
            written[name], origin[name] = file_array(
                value, specs[name], places[name], sample_rate_hz=pipeline.sample_rate_hz
            )
        else:
            written[name] = value_array(specs[name], value, places[name])
    arrays = {
        name: array for name, array in written.items() if array.ndim == len(specs[name].shape)
    }
    # What is written out row by row decides how many rows the others have.
    sizes = {**example_sizes(pipeline), **_sizes(specs, arrays)}
    if stream is not None and stream.total is not None:
        sizes[STEPS] = stream.total
    if recorded is not None and config.recording is not None:
        rows = max([1, *(n for axis, n in _sizes(specs, arrays).items() if axis in BATCH_NAMES)])
        array = recorded_array(
            *(config.recording, recorded, pipeline.sample_rate_hz, rows),
            resample=config.resample is not None,
        )
        arrays[recorded.name] = array
        places[recorded.name] = pipeline.where(*where, "audio")
        taken = "" if recorded.name == WAVEFORM else f" as '{recorded.name}'"
        digest = _digest(array)
        origin[recorded.name] = f"{config.recording.name} sha256:{digest}{taken}"
    for name, drawn in (config.random or {}).items():
        arrays[name] = _drawn(specs[name], drawn, sizes, places[name])
        origin[name] = f"{name}: {drawn.kind} seed {drawn.seed}"
    known = {**sizes, **_sizes(specs, arrays)}
    for name, array in written.items():
        if name not in arrays:
            arrays[name] = filled(specs[name], array, known, places[name])
    for name, spec in specs.items():
        if name in arrays:
            continue
        if recorded is not None and name == f"{recorded.name}{LENGTHS}":
            arrays[name] = _full_lengths(spec, arrays[recorded.name], known)
        elif spec.initial is not None:
            arrays[name] = initial_state(spec, {**known, **_empty_axes(specs)})
        elif name in pipeline.inputs:
            # A user's own input that the case leaves out, in the sizes of those that it gives.
            arrays[name] = default_array(pipeline, name, {**sizes, **_sizes(specs, arrays)})
            origin[name] = f"{name}: as the pipeline's inputs say"
        else:
            raise _missing(pipeline, config.name, spec, position)
    check_shapes(specs, arrays, places)
    check_values(specs, arrays, places)
    whole = {name: arrays[name] for name in specs}
    streamed = None
    if stream is None:
        first, *later = cut_calls(pipeline, position, whole, graph)
    else:
        streamed, (first, *later) = _streamed(pipeline, graph, position, whole)
    for inputs in (first, *later):
        check_limits(pipeline, list(graph.values()), inputs, where=pipeline.where(*where))
    return Case(
        name=config.name,
        inputs=first,
        later=tuple(later),
        whole=whole if later and _takes(graph, whole) else None,
        stream=streamed,
        origin="; ".join(origin[name] for name in specs if name in origin)
        or "values in the pipeline",
        expect_empty=frozenset(config.expect_empty),
    )


def _given_specs(
    pipeline: Pipeline, graph: Mapping[str, TensorSpec], position: int
) -> dict[str, TensorSpec]:
    """Specs of what a case gives, before it is cut into calls."""
    stream = pipeline.cases[position].stream
    where = pipeline.where("cases", position, "stream")
    return dict(graph) if stream is None else whole_specs(stream, graph, where)


def _streamed(
    pipeline: Pipeline, graph: Mapping[str, TensorSpec], position: int, whole: Mapping[str, Any]
) -> tuple[Streamed, tuple[Mapping[str, np.ndarray], ...]]:
    """The calls of a case in windows, each of the shapes that the graph takes."""
    stream = pipeline.cases[position].stream
    if stream is None:
        raise AssertionError("a case without a stream")
    where = pipeline.where("cases", position, "stream")
    streamed, calls = cut_stream(stream, whole, graph, where)
    for inputs in calls:
        check_shapes(graph, inputs, dict.fromkeys(graph, where))
    return streamed, calls


def _takes(graph: Mapping[str, TensorSpec], whole: Mapping[str, np.ndarray]) -> bool:
    """Whether the graph could be called on the whole at once."""
    return all(
        size == wanted
        if isinstance(wanted, int)
        else all(axis.takes(size) for axis in spec.axes if axis.name == wanted)
        for name, spec in graph.items()
        for wanted, size in zip(spec.shape, whole[name].shape, strict=True)
    )


def _recorded(
    pipeline: Pipeline, specs: Mapping[str, TensorSpec], number: int
) -> TensorSpec | None:
    """The input that takes the recording of a case."""
    where = pipeline.where("cases", number, "audio")
    states = pipeline.states.values()
    return recorded_input(pipeline.cases[number], specs, where, states=states)


def _missing(pipeline: Pipeline, case: str, spec: TensorSpec, position: int) -> ConfigError:
    where = ("cases", position, *(("inputs",) if spec.choices else ()))
    how = (
        f"add '{spec.name}:' with one of {', '.join(spec.choices)}"
        if spec.choices
        else f"add it under 'inputs' or 'random' ({spec.dtype}, shape {spec.shape})"
    )
    return ConfigError(
        f"case '{case}' gives no value for the input '{spec.name}'",
        where=pipeline.where(*where),
        remedy=how,
    )


def _full_lengths(spec: TensorSpec, recorded: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    """Every row of a recording is in use to its end."""
    shape = tuple(sizes.get(size, 1) if isinstance(size, str) else size for size in spec.shape)
    check_elements(shape, None)
    return np.full(shape, recorded.shape[-1], spec.dtype)


def initial_state(spec: TensorSpec, sizes: Mapping[str, int] = EMPTY) -> np.ndarray:
    """What an input that carries state holds before the first call.

    Args:
        sizes: of symbolic axes that other inputs decide (the batch); the others are minimal.
    """
    known = {**{axis.name: axis.minimum for axis in spec.axes}, **sizes}
    shape = tuple(known[size] if isinstance(size, str) else size for size in spec.shape)
    check_elements(shape, None)
    return np.full(shape, spec.initial, dtype=spec.dtype)


def _empty_axes(specs: Mapping[str, TensorSpec]) -> dict[str, int]:
    """Axes of states alone that may have nothing: a cache that grows begins with nothing."""
    given = {size for spec in specs.values() if spec.initial is None for size in spec.shape}
    axes = (axis for spec in specs.values() if spec.initial is not None for axis in spec.axes)
    return {axis.name: 0 for axis in axes if axis.minimum == 0 and axis.name not in given}


def _sizes(specs: Mapping[str, TensorSpec], arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {
        name: size
        for key, array in arrays.items()
        for name, size in zip(specs[key].shape, array.shape, strict=False)
        if isinstance(name, str)
    }


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(array, order="C").tobytes()).hexdigest()[:16]


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
