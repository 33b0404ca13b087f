"""A case at the lengths at which a pipeline wants its export proved.

    lengths: {waveform: [400, 16000]}     sizes of the last axis of an input that varies
    lengths: {frames: [1, 13, 200]}       sizes of an axis, by its own name

Every input that has the axis is cut or repeated with it, and ``<input>_lengths`` follow.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import numpy as np

from exporter.cases.check_sizes import check_elements
from exporter.cases.defaults import LENGTHS
from exporter.config import Pipeline
from exporter.core.errors import ConfigError
from exporter.core.tensors import BATCH_NAMES, Axis, Case, TensorSpec


def sized_cases(
    pipeline: Pipeline, inputs: tuple[TensorSpec, ...], cases: tuple[Case, ...]
) -> tuple[Case, ...]:
    """The first case at every length at which the pipeline wants the export proved.

    Raises:
        ConfigError: no such input or axis, one that does not vary, or a size outside its limits.
    """
    specs = {spec.name: spec for spec in inputs}
    return tuple(
        with_size(
            cases[0],
            specs,
            name,
            axis_of(pipeline, specs, name),
            size,
            where=pipeline.where("lengths", name, number),
        )
        for name, sizes in pipeline.lengths.items()
        for number, size in enumerate(sizes)
    )


def axis_of(pipeline: Pipeline, specs: Mapping[str, TensorSpec], name: str) -> str:
    """The axis that a key of ``lengths`` means, checked against the sizes that it asks for.

    Raises:
        ConfigError: as ``sized_cases``.
    """
    where = pipeline.where("lengths", name)
    axes = {axis.name: axis for spec in specs.values() for axis in spec.axes}
    named = {size for spec in specs.values() for size in spec.shape if isinstance(size, str)}
    if name in specs:
        varying = [s for s in specs[name].shape if isinstance(s, str) and s not in BATCH_NAMES]
        if not varying:
            raise ConfigError(
                f"no axis of '{name}' varies, but for a batch: its shape is"
                f" {list(specs[name].shape)}",
                where=where,
                remedy=f"name an input or an axis that has a length: {_with_length(specs)}",
            )
        axis = varying[-1]
    elif name in named:
        axis = name
    else:
        near = difflib.get_close_matches(name, [*specs, *named], 1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(
            f"the graph has no input and no axis '{name}'",
            where=where,
            remedy=f"{hint}what has a length: {_with_length(specs)}",
        )
    limits = axes.get(axis, Axis(name=axis))
    for number, size in enumerate(pipeline.lengths[name]):
        if not limits.takes(size):
            raise ConfigError(
                f"{size} is outside of what the axis '{axis}' takes: {limits.words()}",
                where=pipeline.where("lengths", name, number),
                remedy="prove the export at sizes that it is declared for, or change the axis",
            )
    return axis


def _with_length(specs: Mapping[str, TensorSpec]) -> str:
    fitting = [
        name
        for name, spec in specs.items()
        if any(isinstance(s, str) and s not in BATCH_NAMES for s in spec.shape)
    ]
    return ", ".join(fitting) or "none"


def with_size(
    case: Case,
    specs: Mapping[str, TensorSpec],
    name: str,
    axis: str,
    size: int,
    *,
    where: str | None = None,
) -> Case:
    """The same case with ``size`` steps of an axis: cut, or repeated from the start.

    A case in several calls becomes one call. ``name`` is what the sizes were given for.

    Raises:
        ConfigError: that many steps are more than an input can have.
    """
    whole = case.entire
    inputs: dict[str, np.ndarray] = {}
    for key, array in whole.items():
        spec = specs[key]
        if axis in spec.shape and spec.initial is None:
            at = spec.shape.index(axis)
            have = array.shape[at]
            if have:
                check_elements((*array.shape[:at], size, *array.shape[at + 1 :]), where)
                array = np.take(array, np.arange(size) % have, axis=at)
        inputs[key] = array
    for key in whole:
        measured = specs.get(key.removesuffix(LENGTHS))
        counts = key.endswith(LENGTHS) and measured is not None and axis in measured.shape
        if counts and axis not in BATCH_NAMES and inputs[key].dtype.kind in "iu":
            inputs[key] = np.full_like(inputs[key], size)
    return Case(
        name=f"{case.name}@{size}",
        sized=True,
        inputs=inputs,
        origin=f"{case.origin}, {name} repeated or cut to {size}",
        expect_empty=frozenset(),
    )
