"""pydantic's errors to what a user reads: place, problem, what would be right."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from exporter.config.pipeline import Pipeline
from exporter.config.problems import Problem
from exporter.config.yaml_tree import Keys, Place, where_of

_SHOWN = 60
_UNKNOWN = "unknown key"
_MISSING = "this key is missing"


def explain(
    error: ValidationError,
    content: Mapping[str, Any],
    places: Mapping[Keys, Place],
    file: str,
    root: type[BaseModel] = Pipeline,
) -> list[Problem]:
    """Turn a failed validation into problems, one per key.

    Args:
        error: what pydantic raised for ``content``.
        content: the merged YAML.
        places: line of each key.
        file: name of the outermost file, for keys that no file gives.
        root: what the whole of it is.
    """
    problems: dict[Keys, Problem] = {}
    items: list[Any] = list(error.errors(include_url=False))
    for item in items:
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # its items failed, each with an error of its own
        keys = _keys_in_yaml(item, content)
        keys, problem, remedy = _words(item, keys, root)
        if keys in problems:  # the members of a union fail one by one
            first = problems[keys]
            if remedy not in first.remedy:
                also = remedy.replace("it should be", "or", 1)
                problems[keys] = dataclasses.replace(first, remedy=f"{first.remedy} {also}")
            continue
        problems[keys] = Problem(where=where_of(places, keys, file), problem=problem, remedy=remedy)
    misspelt = {
        (*keys[:-1], _near(keys, root))
        for keys, item in problems.items()
        if item.problem == _UNKNOWN
    }
    return [
        item for keys, item in problems.items() if item.problem != _MISSING or keys not in misspelt
    ]


def _keys_in_yaml(item: Any, content: Any) -> Keys:
    """Drop what pydantic adds to a location (names of union members, ``[key]``)."""
    loc = item["loc"]
    keys: list[str | int] = []
    for index, key in enumerate(loc):
        last = index == len(loc) - 1
        inside = (isinstance(content, dict) and key in content) or (
            isinstance(content, list) and isinstance(key, int) and key < len(content)
        )
        if inside:
            keys.append(key)
            content = content[key]
        elif last and item["type"] == "missing":
            keys.append(key)
    return tuple(keys)


def _words(item: Any, keys: Keys, root: type[BaseModel]) -> tuple[Keys, str, str]:
    kind, given = item["type"], item["input"]
    if kind == "extra_forbidden":
        return keys, _UNKNOWN, _hint(keys, root)
    if kind == "missing":
        return keys, _MISSING, f"add '{keys[-1]}:'{_purpose(keys, root)}"
    if kind == "value_error":
        text = str(item["ctx"]["error"])
        head, _, rest = text.partition(": ")
        if not keys and rest and head in root.model_fields:
            return (head,), rest, f"see '{head}' in the README's section on pipelines"
        return keys, text, "correct this section"
    problem = f"{_shown(given)} is not possible here"
    if kind == "literal_error":
        allowed = str(item["ctx"]["expected"])
        near = difflib.get_close_matches(
            str(given), allowed.replace("'", "").replace(" or ", ", ").split(", "), n=1
        )
        return (
            keys,
            problem,
            f"did you mean '{near[0]}'? allowed: {allowed}" if near else f"allowed: {allowed}",
        )
    said = item["msg"].replace("Input should be", "it should be")
    said = said.replace("a valid tuple", "a list").replace("valid dictionary", "mapping of keys")
    said = re.sub(r" or instance of \w+", "", said)
    return keys, problem, f"{said}{_purpose(keys, root)}"


def _purpose(keys: Keys, root: type[BaseModel]) -> str:
    if not keys:
        return ""
    for section, rest in _sections(keys[:-1], root):
        if not rest and keys[-1] in section.model_fields:
            text = section.model_fields[str(keys[-1])].description
            return f" ({text})" if text else ""
    return ""


def _known(keys: Keys, root: type[BaseModel]) -> list[str]:
    known: list[str] = []
    for section, rest in _sections(keys[:-1], root):
        if not rest:
            known = list(section.model_fields)
    return known


def _near(keys: Keys, root: type[BaseModel]) -> str | None:
    """The known key that an unknown one was probably meant to be."""
    return next(iter(difflib.get_close_matches(str(keys[-1]), _known(keys, root), n=1)), None)


def _hint(keys: Keys, root: type[BaseModel]) -> str:
    near = _near(keys, root)
    if near is not None:
        return f"did you mean '{near}'?"
    elsewhere = [
        name
        for name, field in root.model_fields.items()
        for section in _inside(field.annotation)
        if keys[-1] in section.model_fields and len(keys) == 1
    ]
    hint = f"it belongs under '{elsewhere[0]}'; " if elsewhere else ""
    return f"{hint}known here: {', '.join(_known(keys, root))}"


def _sections(keys: Keys, root: type[BaseModel]) -> Iterator[tuple[type[BaseModel], Keys]]:
    """Walk from the root down along keys: each section, and the keys that are left."""
    section = root
    rest = keys
    yield section, rest
    while rest:
        field = section.model_fields.get(str(rest[0]))
        below = list(_inside(field.annotation)) if field else []
        if not below:
            return
        section = below[0]
        nested = section is not (field.annotation if field else None) and len(rest) > 1
        container = nested and not _is_optional(field.annotation if field else None)
        rest = rest[2:] if container else rest[1:]
        yield section, rest


def _is_optional(annotation: Any) -> bool:
    """True for ``Section | None``, where no index or name lies between."""
    return any(
        isinstance(item, type) and issubclass(item, BaseModel)
        for item in typing.get_args(annotation)
    ) and (typing.get_origin(annotation) not in (dict, tuple))


def _inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for item in typing.get_args(annotation):
        yield from _inside(item)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
