"""YAML text to plain values, remembering the line of every key.

The dialect is the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): only
``true`` and ``false`` are booleans, so a language ``no`` stays a string; ``1e-3`` is a number;
dates stay strings. Tags that build other objects are refused, and so are duplicate keys, which
YAML libraries resolve silently in favour of the last one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from exporter.config.problems import Problem
from exporter.config.shipped import shipped_names
from exporter.core.errors import UserInputError, first_line
from exporter.core.files import open_regular
from exporter.core.reading import is_regular, reason

Keys = tuple[str | int, ...]
MAX_BYTES = 1 << 20
MAX_NODES = 100_000
MAX_DEPTH = 50
_LARGEST, _MOST_DIGITS = (1 << 64) - 1, 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file, as the user would write it, and a line counted from 1."""

    file: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlTree:
    """What one YAML file says: mappings, lists, strings, numbers, booleans and ``None``."""

    content: dict[str, Any]
    places: Mapping[Keys, Place]


class _CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    digits = text[2:] if base != 10 else text
    value = int(digits, base) if len(digits) <= _MOST_DIGITS else _LARGEST + 1
    if abs(value) > _LARGEST:
        raise ValueError("no integer of 64 bits")
    return value


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(
        str(loader.construct_scalar(node)).lower().replace(".inf", "inf").replace(".nan", "nan")
    )


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first
    )
_CoreLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_CoreLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)

_SCALARS = frozenset(f"tag:yaml.org,2002:{tag}" for tag in ("null", "bool", "int", "float", "str"))
_MAPPING = "tag:yaml.org,2002:map"
_SEQUENCE = "tag:yaml.org,2002:seq"


def read_yaml(path: Path, shown: str) -> tuple[YamlTree, list[Problem]]:
    """Read one file.

    Args:
        path: the file.
        shown: the same path as messages name it.

    Returns:
        the tree, and everything that is wrong with it as YAML. Only when the list is empty does
        the tree hold all of the file.
    """
    text, problem = _read_text(path, shown)
    if problem is not None:
        return YamlTree(content={}, places={}), [problem]
    try:
        loader = _CoreLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        wrong = error.problem or error.context or "cannot be parsed"
        return _nothing(
            f"{shown}{line}", f"this is not YAML: {wrong}", "correct the line, or the one above it"
        )
    except (yaml.YAMLError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        reason = "nested too deeply" if deep else first_line(error, 1000)
        return _nothing(
            shown,
            f"this is not YAML: {reason}",
            "give a pipeline file such as pipelines/sensevoice.yaml",
        )
    walker = _Walker(loader, shown)
    if not isinstance(node, yaml.MappingNode):
        wrong = "it is empty" if node is None else "it holds no keys"
        return _nothing(
            f"{shown}:1", f"this is no pipeline: {wrong}", "write keys such as 'name:' and 'model:'"
        )
    content = walker.visit(node, (), 0)
    tree = YamlTree(content=content if isinstance(content, dict) else {}, places=walker.places)
    return tree, walker.problems


def _read_text(path: Path, shown: str) -> tuple[str, Problem | None]:
    remedy = "give the path of a pipeline YAML; 'export-verify list' shows the ones that come along"
    try:
        if not is_regular(path):
            what = "this is a folder" if path.is_dir() else "there is no such file"
            near = difflib.get_close_matches(str(path.with_suffix("")), shipped_names(), n=1)
            if near and not path.is_dir():
                remedy = (
                    f"did you mean '{near[0]}', which comes along? 'export-verify list' shows all"
                )
            return "", Problem(where=shown, problem=what, remedy=remedy)
        with open_regular(path) as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            return "", Problem(
                where=shown, problem="this file is too large to be a pipeline", remedy=remedy
            )
        return data.decode("utf-8"), None
    except UnicodeDecodeError:
        return "", Problem(where=shown, problem="this is not text in UTF-8", remedy=remedy)
    except (OSError, ValueError, UserInputError) as error:
        return "", Problem(
            where=shown,
            problem=f"cannot be read ({reason(error)})",
            remedy="check path and permissions",
        )


def _nothing(where: str, problem: str, remedy: str) -> tuple[YamlTree, list[Problem]]:
    return YamlTree(content={}, places={}), [Problem(where=where, problem=problem, remedy=remedy)]


class _Walker:
    """Turns nodes into values; every alias is expanded, within a limit."""

    def __init__(self, loader: _CoreLoader, shown: str) -> None:
        self.loader = loader
        self.shown = shown
        self.places: dict[Keys, Place] = {}
        self.problems: list[Problem] = []
        self.count = 0

    def visit(self, node: yaml.Node, keys: Keys, depth: int) -> Any:
        self.places.setdefault(keys, self._place(node))
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            if self.count <= MAX_NODES + 1:
                self._complain(
                    node, keys[:3], "too deeply nested, or too many values", "write it out plainly"
                )
                self.count = MAX_NODES + 1
            return None
        if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
            return self._mapping(node, keys, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
            return [
                self.visit(item, (*keys, index), depth + 1) for index, item in enumerate(node.value)
            ]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node, keys)
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self._complain(
            node, keys, f"the tag '{tag}' is not allowed", "write plain values without tags"
        )
        return None

    def _mapping(self, node: yaml.MappingNode, keys: Keys, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            plain = key is not None and _is_text(key) and key_node.tag in _SCALARS
            if key is None or key == "<<" or not plain:
                what = "'<<' is not supported" if key == "<<" else "a key must be a plain word"
                self._complain(key_node, keys, what, "to build on another file use 'extends: FILE'")
                continue
            if key in result:
                first = self.places[(*keys, key)].line
                self._complain(
                    key_node,
                    (*keys, key),
                    f"this key was already given in line {first}",
                    "keep one of the two",
                )
                continue
            self.places[(*keys, key)] = self._place(key_node)
            result[key] = self.visit(value_node, (*keys, key), depth + 1)
        return result

    def _scalar(self, node: yaml.ScalarNode, keys: Keys) -> Any:
        try:
            node.value.encode()  # an escape may stand for what no text can hold
            return self.loader.construct_object(node)
        except UnicodeEncodeError:
            self._complain(
                node, keys, "this is no text", "write it without escapes such as \\ud800"
            )
        except (ValueError, LookupError):
            self._complain(
                node,
                keys,
                f"'{node.value[:40]}' does not fit its tag, or is too large",
                "write a plain value of at most 64 bits, without a tag",
            )
        return None

    def _place(self, node: yaml.Node) -> Place:
        return Place(file=self.shown, line=node.start_mark.line + 1)

    def _complain(self, node: yaml.Node, keys: Keys, problem: str, remedy: str) -> None:
        place = self._place(node)
        self.problems.append(
            Problem(
                where=f"{place.file}:{place.line}: {dotted(keys)}", problem=problem, remedy=remedy
            )
        )


def _is_text(key: str) -> bool:
    return key.isprintable()


def where_of(places: Mapping[Keys, Place], keys: Keys, file: str) -> str:
    """``file:line: key.path`` of a key, in the file that really sets it.

    A key that no file gives is placed at the nearest section around it.
    """
    for end in range(len(keys), -1, -1):
        place = places.get(tuple(keys[:end]))
        if place is not None:
            return f"{place.file}:{place.line}: {dotted(keys)}"
    return f"{file}: {dotted(keys)}"


def dotted(keys: Keys) -> str:
    """Return keys the way messages print them: ``cases[0].audio``; "top level" for none."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text or "top level"
