"""Cells: one combination of values each, and which combinations there are."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.config.extends import Resolved
from exporter.config.pipeline import Pipeline
from exporter.execution.deployment import CPU
from exporter.matrix.schema import (
    CASE,
    LENGTH,
    OPTIONS,
    PIPELINE,
    PROVIDER,
    RUN_AXES,
    MatrixFile,
    Value,
    matches,
    text_of,
)
from exporter.matrix.variants import variant_pipeline


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination: a value for each axis, in the order of the axes."""

    values: tuple[tuple[str, Value], ...]

    def __getitem__(self, axis: str) -> Value:
        return dict(self.values)[axis]

    def get(self, axis: str, default: Value | None = None) -> Value | None:
        """The value of an axis, or ``default`` where the matrix has no such axis."""
        return dict(self.values).get(axis, default)

    def given(self, axis: str, value: Value) -> Cell:
        """The same cell with another value of one axis."""
        return Cell(tuple((name, value if name == axis else own) for name, own in self.values))

    def label(self) -> str:
        """``pipeline=silero_vad threads=2``."""
        return " ".join(f"{name}={text_of(value)}" for name, value in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Axes with their values, and which combinations exist.

    Attributes:
        axes: axis -> values that are covered, in order. between: axis -> further ones, which are
            only asked for to find where something moved.
        ordered: axes whose values have an order; the smallest is first.
    """

    axes: Mapping[str, tuple[Value, ...]]
    between: Mapping[str, tuple[Value, ...]]
    ordered: frozenset[str]
    exists: Exists

    def cells(self) -> Iterator[Cell]:
        """Every combination that exists."""
        for values in itertools.product(*self.axes.values()):
            cell = Cell(tuple(zip(self.axes, values, strict=True)))
            if self.exists(dict(cell.values)):
                yield cell

    def has(self, cell: Cell) -> bool:
        """Whether a combination exists."""
        return self.exists(dict(cell.values))


class Exists:
    """Which combinations there are: those that no constraint forbids, whose case is there, and
    whose options are the provider's: the CPU would run without them."""

    def __init__(self, file: MatrixFile, pipelines: Mapping[str, Pipeline]):
        self._file = file
        self.limits = bool(file.constraints or file.axes.case or file.axes.provider_options)
        self._cases = {name: {case.name for case in p.cases} for name, p in pipelines.items()}

    def __call__(self, values: dict[str, Value]) -> bool:
        """Also of a part of a combination: whether what is given of it may be."""
        if any(
            c.forbids(values) for c in self._file.constraints if {*c.when, *c.only} <= values.keys()
        ):
            return False
        if OPTIONS in values and (PROVIDER in values or not self._file.axes.provider):
            options = self._file.axes.provider_options[str(values[OPTIONS])]
            if options and values.get(PROVIDER, CPU) == CPU:
                return False
        if CASE in values and PIPELINE in values:
            return values[CASE] in self._cases[str(values[PIPELINE])]
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A matrix as it is run.

    Attributes:
        path: of its file. said: what that says, each key with its place. pipelines: name -> what
            the YAML says, each once.
    """

    path: Path
    said: Resolved
    file: MatrixFile
    pipelines: Mapping[str, Pipeline]
    space: Space

    def needs(self, cell: Cell) -> dict[str, int]:
        """What a worker must have for a cell."""
        needed = {"cuda": 1} if cell.get("provider") == "cuda" else {}
        for item in self.file.resources:
            if matches(item.when, dict(cell.values)):
                needed |= item.needs
        return needed

    def variant(self, cell: Cell) -> dict[str, Value]:
        """The values that decide the file of a cell."""
        return {name: value for name, value in cell.values if name not in RUN_AXES}

    def pipeline_of(self, variant: Mapping[str, Value]) -> tuple[Pipeline, dict[str, Any]]:
        """The pipeline of a variant, and the YAML that says it.

        Raises:
            ConfigError: there is none with these values.
        """
        values = {name: value for name, value in variant.items() if name != PIPELINE}
        return variant_pipeline(
            self.pipelines[str(variant[PIPELINE])], values, self.path, self.said
        )


def ordered_axes(file: MatrixFile) -> frozenset[str]:
    """Axes whose values can be told as a range."""
    numeric = {
        name
        for name, values in file.axes.values().items()
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    }
    return frozenset({"onnxruntime", "torch", "onnxsim", LENGTH, *numeric})


def digest_of(said: object) -> str:
    """A name for what is said, in 24 letters."""
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
