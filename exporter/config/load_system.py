"""A path to a validated ``System``, every graph of it a validated ``Pipeline``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, create_model

from exporter.config.driver import Driver
from exporter.config.error_messages import explain
from exporter.config.extends import Resolved, extended, merged, resolve, show
from exporter.config.load import load_pipeline, pipeline_of, with_case_files, yaml_path
from exporter.config.pipeline import Pipeline
from exporter.config.problems import Problem, raise_all
from exporter.config.system import GRAPHS, System, bind_system
from exporter.config.yaml_tree import Keys
from exporter.core.errors import ConfigError

_COMMON = "common"
GRAPH_MARK = "#"
"""Between the path of a system's YAML and the name of one of its graphs."""
_TOKENIZER: Keys = ("judge", "text", "tokenizer")


def is_system(path: str | Path) -> bool:
    """True for a YAML with ``graphs:``; False also for one that cannot be read.

    Raises:
        ConfigError: no file can have this path.
    """
    resolved, problems = resolve(yaml_path(path))
    return not problems and GRAPHS in resolved.content


def load_graph(path: str | Path) -> Pipeline:
    """The pipeline of a YAML, or of one graph of a system: ``whisper_tiny.yaml#decoder``.

    Raises:
        ConfigError: as ``load_pipeline``; it is a system and no graph is named, or none of this
            name is there.
    """
    file, mark, name = str(path).rpartition(GRAPH_MARK)
    if mark and not yaml_path(path).exists():
        system = load_system(file)
        if name in system.pipelines:
            return system.pipelines[name]
        problem = f"there is no graph '{name}'"
        raise ConfigError(problem, where=file, remedy=f"graphs: {', '.join(system.pipelines)}")
    if is_system(path):
        raise ConfigError(
            "this is a system of several graphs, and this command takes one",
            where=str(path),
            remedy=f"name one of them: {path}{GRAPH_MARK}NAME; 'run' and 'verify' take systems",
        )
    return load_pipeline(path)


def load_system(path: str | Path, *, trust: bool = False) -> System:
    """Read the YAML of a system, and the pipelines of its graphs.

    Paths in it count from the folder of the file that sets them.

    Args:
        path: the YAML.
        trust: let the graphs run the code that their ``model.factory`` names.

    Raises:
        ConfigError: all that is wrong, each with ``file:line: key.path`` and what would be right.
    """
    path = yaml_path(path)
    shown = show(path)
    resolved, problems = resolve(path)
    raise_all(shown, problems)
    content, problems = with_case_files(resolved)
    content = _with_tokenizer(content, resolved)
    try:
        system = System.model_validate(content)
    except ValidationError as error:
        reported = explain(error, content, resolved.places, shown, _root(content))
        raise_all(shown, [*reported, *problems])
        raise  # an error without items is a bug of ours
    raise_all(shown, problems)
    pipelines = {name: _graph(resolved, name, shown, system.name) for name in system.graphs}
    names = [pipeline.name for pipeline in pipelines.values()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        where = f"{shown}: {GRAPHS}"
        remedy = "give one of them another 'name'"
        raise_all(shown, [Problem(where=where, problem=f"two are called '{twice}'", remedy=remedy)])
    if trust:
        pipelines = {name: pipeline.with_trust() for name, pipeline in pipelines.items()}
    return bind_system(system, file=shown, places=resolved.places, pipelines=pipelines)


def _root(content: Mapping[str, Any]) -> type[BaseModel]:
    """The schema of this system: with the one driver that its ``kind`` names."""
    driver = content.get("driver")
    kind = driver.get("kind") if isinstance(driver, dict) else None
    for section in get_args(get_args(Driver)[0]):
        if get_args(section.model_fields["kind"].annotation) == (kind,):
            return create_model("System", __base__=System, driver=(section, ...))
    return System


def _with_tokenizer(content: dict[str, Any], resolved: Resolved) -> dict[str, Any]:
    """The tokenizer's path counts from the folder of the file that sets it."""
    judge = content.get("judge")
    if not isinstance(judge, dict) or not isinstance(judge.get("text"), dict):
        return content
    text = judge["text"]
    given = text.get("tokenizer")
    if not isinstance(given, str):
        return content
    file = resolved.folders[resolved.places[_TOKENIZER].file] / given
    return {**content, "judge": {**judge, "text": {**text, "tokenizer": file}}}


def _graph(resolved: Resolved, name: str, shown: str, system: str) -> Pipeline:
    """The pipeline of one graph."""
    keys: Keys = (GRAPHS, name)
    written = resolved.content[GRAPHS][name]
    place = resolved.places[keys]
    if isinstance(written, str):
        return load_pipeline(resolved.folders[place.file] / written)
    if not isinstance(written, dict):
        where = f"{place.file}:{place.line}: {GRAPHS}.{name}"
        remedy = "give the path of a pipeline YAML, or what such a file would say"
        raise_all(shown, [Problem(where=where, problem="this is no pipeline", remedy=remedy)])
    own = merged(_section(resolved, (_COMMON,)), _section(resolved, keys))
    file = resolved.folders[place.file] / Path(place.file).name
    tree, problems = extended(own, file)
    raise_all(shown, problems)
    tree.content.setdefault("name", f"{system}_{name}")
    return pipeline_of(tree, f"{shown}{GRAPH_MARK}{name}")


def _section(resolved: Resolved, keys: Keys) -> Resolved:
    """A section of a file as a file of its own."""
    content: Any = resolved.content
    for key in keys:
        content = content.get(key) or {}
    depth = len(keys)
    places = {k[depth:]: p for k, p in resolved.places.items() if k[:depth] == keys and k != keys}
    if keys in resolved.places:
        places[()] = resolved.places[keys]
    return Resolved(content=dict(content), places=places, folders=resolved.folders)
