"""What the cases of a pipeline name exists in the graph: a word that nothing reads is an error."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from exporter.config import Pipeline
from exporter.core.errors import ConfigError
from exporter.core.tensors import TensorSpec


def check_names(pipeline: Pipeline, specs: Mapping[str, TensorSpec], number: int) -> None:
    """Check one case of a pipeline.

    Args:
        specs: of the graph's inputs, by name. number: of the case.

    Raises:
        ConfigError: an input or output that does not exist, an input that is given twice, or a
            size of an axis that the input has not.
    """
    case = pipeline.cases[number]
    where = ("cases", number)
    for key, named in (("inputs", case.inputs), ("random", case.random or {})):
        for name in named:
            if name not in specs:
                raise _unknown("input", name, specs, pipeline.where(*where, key, name))
    for name, drawn in (case.random or {}).items():
        place = pipeline.where(*where, "random", name)
        if name in case.inputs:
            raise ConfigError(
                f"'{name}' is drawn and has a value under 'inputs'",
                where=place,
                remedy="give one of the two",
            )
        axes = [size for size in specs[name].shape if isinstance(size, str)]
        for axis in drawn.sizes or {}:
            if axis not in axes:
                raise ConfigError(
                    f"'{name}' has no axis '{axis}'",
                    where=pipeline.where(*where, "random", name, "sizes", axis),
                    remedy=f"its shape: {list(specs[name].shape)}",
                )
    for position, name in enumerate(case.expect_empty):
        if name not in pipeline.outputs:
            place = pipeline.where(*where, "expect_empty", position)
            raise _unknown("output", name, pipeline.outputs, place)


def _unknown(kind: str, name: str, known: Collection[str], where: str) -> ConfigError:
    near = difflib.get_close_matches(name, list(known), 1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return ConfigError(
        f"the graph has no {kind} '{name}'",
        where=where,
        remedy=f"{hint}its {kind}s: {', '.join(known)}",
    )
