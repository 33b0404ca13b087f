"""A path to a validated ``Matrix``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from exporter.config.error_messages import explain
from exporter.config.extends import resolve, show
from exporter.config.load import load_pipeline, yaml_path
from exporter.config.pipeline import Pipeline
from exporter.config.problems import Problem, raise_all
from exporter.matrix.cells import Exists, Matrix, Space, ordered_axes
from exporter.matrix.schema import (
    CASE,
    PIPELINE,
    RELEASES,
    RUN_AXES,
    MatrixFile,
    Value,
    matches,
    release_key,
    text_of,
)

_CHECKED = 256
"""Variants whose pipelines are read before anything runs; of more, the rest when they are asked."""


def load_matrix(given: str | Path, *, trust: bool = False) -> Matrix:
    """Read a matrix and the pipelines that it names; paths count from its folder.

    Args:
        trust: let the pipelines run the code that their ``model.factory`` names.

    Raises:
        ConfigError: all that is wrong, each with its place and what would be right.
    """
    path = yaml_path(given)
    resolved, problems = resolve(path)
    shown = show(path)
    raise_all(shown, problems)
    try:
        file = MatrixFile.model_validate(resolved.content)
    except ValidationError as error:
        raise_all(shown, explain(error, resolved.content, resolved.places, shown, MatrixFile))
        raise  # an error without items is a bug of ours
    pipelines: dict[str, Pipeline] = {}
    for number, text in enumerate(file.pipelines):
        place = resolved.places[("pipelines", number)]
        where = f"{place.file}:{place.line}: pipelines[{number}]"
        folder = resolved.folders[place.file]
        pipeline = load_pipeline(folder / text, trust=trust)
        problem = _refused(pipeline, pipelines, trust)
        if problem:
            raise_all(shown, [Problem(where=where, problem=problem[0], remedy=problem[1])])
        pipelines[pipeline.name] = pipeline
    _check_cases(file, pipelines, shown)
    _check_globs(file, pipelines, shown)
    exists = Exists(file, pipelines)
    axes = {PIPELINE: tuple(pipelines), **file.axes.values()}
    for name in RELEASES:
        if name in axes:
            axes[name] = tuple(sorted(map(str, axes[name]), key=release_key))
    between = {name: tuple(getattr(file.axes, name).between) for name in RELEASES if name in axes}
    space = Space(axes=axes, between=between, ordered=ordered_axes(file), exists=exists)
    if next(space.cells(), None) is None:
        problem = "the constraints leave no combination"
        raise_all(shown, [Problem(where=shown, problem=problem, remedy="loosen one of them")])
    matrix = Matrix(path=path, said=resolved, file=file, pipelines=pipelines, space=space)
    raise_all(shown, [*_in_no_cell(matrix, shown), *_idle_seeds(matrix, shown)])
    for variant in itertools.islice(_variants(matrix), _CHECKED):
        matrix.pipeline_of(variant)
    return matrix


def _refused(
    pipeline: Pipeline, pipelines: dict[str, Pipeline], trust: bool
) -> tuple[str, str] | None:
    if pipeline.name in pipelines:
        return f"two pipelines are called '{pipeline.name}'", "give one of them another name"
    if pipeline.file_alone is not None:
        return (
            "a file alone has nothing of PyTorch to be held against",
            "'export-verify compare FILE --versions' runs a file under several releases",
        )
    if pipeline.model.factory is not None and not trust:
        return "this pipeline runs code of its own", "if you trust it, add --trust"
    return None


def _check_cases(file: MatrixFile, pipelines: dict[str, Pipeline], shown: str) -> None:
    every = {case.name for pipeline in pipelines.values() for case in pipeline.cases}
    unknown = [name for name in file.axes.case if name not in every]
    raise_all(
        shown,
        [
            Problem(
                where=f"{shown}: axes.{CASE}",
                problem=f"no pipeline has a case '{name}'",
                remedy=f"cases: {', '.join(sorted(every))}",
            )
            for name in unknown
        ],
    )


def _check_globs(file: MatrixFile, pipelines: Mapping[str, Pipeline], shown: str) -> None:
    """A glob that takes no value forbids nothing, or places a cell nowhere: it is a mistake."""
    values = {PIPELINE: tuple(pipelines), **file.axes.values()}
    for name in RELEASES:
        if (versions := getattr(file.axes, name)) is not None:
            values[name] = (*values[name], *versions.between)
    globs_named = [
        (f"constraints[{at}].when", item.when) for at, item in enumerate(file.constraints)
    ]
    globs_named += [
        (f"constraints[{at}].only", item.only) for at, item in enumerate(file.constraints)
    ]
    globs_named += [(f"resources[{at}].when", item.when) for at, item in enumerate(file.resources)]
    raise_all(
        shown,
        [
            Problem(
                where=f"{shown}: {where}.{axis}",
                problem=f"no value of '{axis}' is '{text_of(glob)}'",
                remedy=f"values: {', '.join(map(text_of, values[axis]))}",
            )
            for where, patterns in globs_named
            for axis, globs in patterns.items()
            for glob in globs
            if not any(matches({axis: (glob,)}, {axis: value}) for value in values[axis])
        ],
    )


def _in_no_cell(matrix: Matrix, shown: str) -> list[Problem]:
    """Values that no cell has: a matrix would be green without having tried them."""
    left = {(axis, value): None for axis, values in matrix.space.axes.items() for value in values}
    for cell in matrix.space.cells():
        for pair in cell.values:
            left.pop(pair, None)
        if not left:
            return []
    return [
        Problem(
            where=f"{shown}: {'pipelines' if axis == PIPELINE else f'axes.{axis}'}",
            problem=f"'{text_of(value)}' stands in no cell",
            remedy="take it out, or loosen the constraints and cases that leave it out",
        )
        for axis, value in left
    ]


def _idle_seeds(matrix: Matrix, shown: str) -> list[Problem]:
    """Pipelines on which the axis 'seed' would be tried, and changes nothing."""
    return [
        Problem(
            where=f"{shown}: axes.seed",
            problem=f"the weights of '{name}' are not seeded: a seed changes nothing there",
            remedy=f"add a constraint: {{when: {{pipeline: {name}}}, only: {{seed: ...}}}}",
        )
        for name, pipeline in matrix.pipelines.items()
        if pipeline.model.weights != "seeded"
        and sum(matrix.space.exists({PIPELINE: name, "seed": s}) for s in matrix.file.axes.seed) > 1
    ]


def _variants(matrix: Matrix) -> Iterator[dict[str, Value]]:
    """Values that decide files, in every combination that may be."""
    left_out = {*RUN_AXES, *RELEASES}
    axes = {axis: values for axis, values in matrix.space.axes.items() if axis not in left_out}
    for values in itertools.product(*axes.values()):
        variant = dict(zip(axes, values, strict=True))
        if matrix.space.exists(variant):
            yield variant
