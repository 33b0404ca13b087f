"""``extends: other.yaml``: a chain of YAML files to one tree.

Mappings are merged key by key; lists and plain values are replaced whole. ``null`` takes an
inherited value away: the key then has its default, and ``vad``, ``features`` and
``max_segment_ms`` have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.config.problems import Problem
from exporter.config.yaml_tree import Keys, Place, read_yaml
from exporter.core.reading import is_regular, path_of

EXTENDS = "extends"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A pipeline's content with everything it extends, and the files that it came from.

    Attributes:
        content: merged values, without ``extends``.
        places: file and line of each key, in the file that really sets it.
        folders: folder of each file, by the name that ``places`` uses.
    """

    content: dict[str, Any]
    places: Mapping[Keys, Place]
    folders: Mapping[str, Path]


def resolve(path: Path, chain: tuple[Path, ...] = ()) -> tuple[Resolved, list[Problem]]:
    """Read a file and everything it extends.

    Args:
        path: the file.
        chain: files that led here, outermost first.

    Returns:
        the merged content, and all problems of all files.
    """
    shown = show(path)
    tree, problems = read_yaml(path, shown)
    own = Resolved(content=dict(tree.content), places=tree.places, folders={shown: path.parent})
    base, more = extended(own, path, chain)
    return base, [*problems, *more]


def extended(
    own: Resolved, path: Path, chain: tuple[Path, ...] = ()
) -> tuple[Resolved, list[Problem]]:
    """What a file, or a section of one, says, on top of what its ``extends`` names.

    Args:
        own: its content, ``extends`` included; that is taken out.
        path: of the file. chain: files that led here, outermost first.
    """
    shown = show(path)
    if EXTENDS not in own.content:
        return own, []
    base = own.content.pop(EXTENDS)
    line = own.places[(EXTENDS,)].line

    def refused(problem: str, remedy: str) -> tuple[Resolved, list[Problem]]:
        where = f"{shown}:{line}: {EXTENDS}"
        return own, [Problem(where=where, problem=problem, remedy=remedy)]

    if not isinstance(base, str) or not base.strip():
        return refused("'extends' names one file", "write for example: extends: sensevoice.yaml")
    try:
        target = path_of(path.parent / path_of(base))
    except ValueError as error:
        return refused(f"this is no path: {error}", "name one file")
    seen = (*chain, path)
    if _identity(target) in {_identity(item) for item in seen}:
        circle = " -> ".join(show(item) for item in (*seen, target))
        return refused(f"files extend each other in a circle: {circle}", "break the circle")
    if not is_regular(target):
        remedy = f"the path counts from the folder of this file: {show(path.parent)}"
        return refused(f"there is no file '{base[:200]}' to extend", remedy)
    parent, inherited = resolve(target, seen)
    return merged(parent, own), inherited


def show(path: Path) -> str:
    """Return a path for messages: relative to the working directory where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except (OSError, ValueError, RuntimeError):
        return str(path)


def _identity(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a circle of links
        return path


def merged(parent: Resolved, child: Resolved) -> Resolved:
    """What ``child`` says on top of ``parent``."""
    replaced: list[Keys] = []
    content = _merge_mappings(parent.content, child.content, (), replaced)
    kept = {
        keys: place
        for keys, place in parent.places.items()
        if not any(keys[: len(prefix)] == prefix for prefix in replaced)
    }
    return Resolved(
        content=content,
        places={**kept, **child.places},
        folders={**parent.folders, **child.folders},
    )


def _merge_mappings(
    parent: dict[str, Any], child: dict[str, Any], keys: Keys, replaced: list[Keys]
) -> dict[str, Any]:
    result = dict(parent)
    for key, value in child.items():
        if isinstance(value, dict) and isinstance(parent.get(key), dict):
            result[key] = _merge_mappings(parent[key], value, (*keys, key), replaced)
            continue
        result[key] = value
        if key in parent:
            replaced.append((*keys, key))
    return result
