"""A path to a validated ``Matrix``."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from exporter.config.error_messages import explain
from exporter.config.extends import resolve, show
from exporter.config.load import load_pipeline, yaml_path
from exporter.config.pipeline import Pipeline
from exporter.config.problems import Problem, raise_all
from exporter.matrix.cells import Exists, Matrix, Space, ordered_axes
from exporter.matrix.schema import CASE, PIPELINE, RELEASES, MatrixFile, release_key


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
    return Matrix(path=path, file=file, pipelines=pipelines, space=space)


def _refused(pipeline: Pipeline, held: dict[str, Pipeline], trust: bool) -> tuple[str, str] | None:
    if pipeline.name in held:
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
