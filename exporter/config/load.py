"""A path to a validated ``Pipeline``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from exporter.config.braces import Braces
from exporter.config.error_messages import explain
from exporter.config.extends import Resolved, resolve, show
from exporter.config.pipeline import Pipeline, bind
from exporter.config.problems import Problem, raise_all
from exporter.config.shipped import shipped_pipeline
from exporter.config.yaml_tree import dotted
from exporter.core.errors import ConfigError
from exporter.core.reading import is_regular, path_of

_CONTRACT_PATHS = (
    ("contracts", "stream", "offline", "pipeline"),
    ("contracts", "stream", "offline_file", "path"),
)


def load_pipeline(path: str | Path, *, trust: bool = False) -> Pipeline:
    """Read a pipeline YAML with everything it extends.

    Paths in it count from the folder of the file that sets them.

    Args:
        path: the YAML.
        trust: let the pipeline run the code that its ``model.factory`` names.

    Raises:
        ConfigError: all that is wrong, each with ``file:line: key.path`` and what would be right.
    """
    path = yaml_path(path)
    resolved, problems = resolve(path)
    raise_all(show(path), problems)
    bound = pipeline_of(resolved, show(path))
    return bound.with_trust() if trust else bound


def yaml_path(path: str | Path) -> Path:
    """The path of a YAML that a user gave: a file, or the name of one that comes with the package.

    Raises:
        ConfigError: no file can have it.
    """
    try:
        given = path_of(path)
    except ValueError as error:
        shown = str(path)[:200]
        raise ConfigError(
            f"this is no path: {error}",
            where=shown.encode(errors="replace").decode(),
            remedy="give the path of a pipeline YAML; 'export-verify list' shows some",
        ) from error
    return given if given.exists() else shipped_pipeline(str(path)) or given


def pipeline_of(resolved: Resolved, shown: str) -> Pipeline:
    """What a file, or a section of one, says, as a pipeline.

    Args:
        shown: the outermost file, as messages name it.

    Raises:
        ConfigError: as ``load_pipeline``.
    """
    content, problems = _with_absolute_paths(resolved)
    written = Braces(content, resolved.places)
    content, places, problems = written.content, written.places, [*problems, *written.problems]
    try:
        pipeline = Pipeline.model_validate(content)
    except ValidationError as error:
        raise_all(shown, [*explain(error, content, places, shown), *problems])
        raise  # an error without items is a bug of ours
    raise_all(shown, problems)
    return bind(pipeline, file=shown, places=places, folders=resolved.folders)


def _with_absolute_paths(resolved: Resolved) -> tuple[dict[str, Any], list[Problem]]:
    content, problems = with_case_files(resolved)
    model = content.get("model")
    if isinstance(model, Mapping) and isinstance(model.get("weights"), str):
        place = resolved.places[("model", "weights")]
        try:
            weights = _weights(model["weights"], resolved.folders[place.file])
        except ValueError as error:
            where = f"{place.file}:{place.line}: model.weights"
            remedy = "give 'seeded', a checkpoint, or hub:ORG/NAME@REVISION"
            problems.append(Problem(where=where, problem=f"no path: {error}", remedy=remedy))
            weights = "seeded"
        content["model"] = {**model, "weights": weights}
    if isinstance(model, Mapping) and isinstance(model.get("onnx"), str):
        place = resolved.places[("model", "onnx")]
        folder = resolved.folders[place.file]
        try:
            path, why = path_of(folder / path_of(model["onnx"])), ""
        except ValueError as error:
            path, why = folder, f": {error}"
        if why or not is_regular(path):
            problems.append(
                Problem(
                    where=f"{place.file}:{place.line}: model.onnx",
                    problem=f"there is no file '{model['onnx'][:200]}'{why}",
                    remedy=f"the path counts from {show(folder)}",
                )
            )
        else:
            content["model"] = {**content["model"], "onnx": str(path.resolve())}
    for keys in _CONTRACT_PATHS:
        content = _with_absolute(content, keys, resolved)
    return content, problems


def _with_absolute(
    content: dict[str, Any], keys: tuple[str, ...], resolved: Resolved
) -> dict[str, Any]:
    """A path deep in a section counts from the folder of the file that sets it."""
    value: Any = content
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    place = resolved.places.get(keys)
    if not isinstance(value, str) or place is None:
        return content
    try:
        made: Any = str(path_of(resolved.folders[place.file] / path_of(value)))
    except ValueError:
        return content  # the section says what is wrong with it
    for depth in range(len(keys) - 1, -1, -1):
        outer: Any = content
        for key in keys[:depth]:
            outer = outer[key]
        made = {**outer, keys[depth]: made}
    return made


def with_case_files(resolved: Resolved) -> tuple[dict[str, Any], list[Problem]]:
    """The content with the absolute paths of its cases' files."""
    content = dict(resolved.content)
    problems: list[Problem] = []
    if isinstance(content.get("cases"), list):
        cases = []
        for index, case in enumerate(content["cases"]):
            cases.append(_with_files(resolved, index, case, problems))
        content["cases"] = cases
    return content, problems


def _with_files(
    resolved: Resolved, index: int, case: Any, problems: list[Problem]
) -> dict[str, Any]:
    """A case with the absolute paths of its files; ``problems`` gets those that are not there."""
    if not isinstance(case, dict):
        return case
    changed = dict(case)
    audio = case.get("audio")
    if isinstance(audio, dict | str):
        changed["audio"] = _with_path(resolved, ("cases", index, "audio"), audio, problems)
    inputs = case.get("inputs")
    if isinstance(inputs, dict):
        changed["inputs"] = {
            name: _with_path(resolved, ("cases", index, "inputs", name), given, problems)
            if isinstance(given, dict)
            else given
            for name, given in inputs.items()
        }
    return changed


def _with_path(
    resolved: Resolved, keys: tuple[str | int, ...], given: Any, problems: list[Problem]
) -> Any:
    """A path, or a section with the key ``file``, with the path made absolute."""
    text = given.get("file") if isinstance(given, dict) else given
    if not isinstance(text, str):
        return given
    if isinstance(given, dict):
        keys = (*keys, "file")
    place = resolved.places[keys]
    folder = resolved.folders[place.file]
    try:
        path, why = path_of(folder / path_of(text)), ""
    except ValueError as error:
        path, why = folder, f": {error}"
    if why or not is_regular(path):
        kind = "recording" if keys[2] == "audio" else "file"
        problems.append(
            Problem(
                where=f"{place.file}:{place.line}: {dotted(keys)}",
                problem=f"there is no {kind} '{text[:200]}'{why}",
                remedy=f"the path counts from {show(folder)}",
            )
        )
    else:
        path = path.resolve()
    return {**given, "file": path} if isinstance(given, dict) else path


def _weights(text: str, folder: Path) -> str:
    if text in ("seeded", "package") or text.startswith("hub:"):
        return text
    path = path_of(folder / path_of(text))
    try:
        return str(path.resolve())
    except (OSError, RuntimeError):  # a circle of links
        return str(path)
