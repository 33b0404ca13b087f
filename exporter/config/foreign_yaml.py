"""YAML that another program wrote: a checkpoint's settings, read by PyYAML's own rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from exporter.config.yaml_tree import MAX_DEPTH, MAX_NODES
from exporter.core.reading import Door, reason

# What PyYAML's constructors raise for scalars that do not fit their tags: 2001-99-99, !!bool x.
_MISFITS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError)


def read_foreign_yaml(
    door: Door, path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader
) -> Any:
    """The plain values of a file.

    Args:
        door: of the kind of file; says what is raised.
        loader: builds values of tags; runs no code.
    """
    text = door.text(path)
    try:
        opened = loader(text)
        node = opened.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return opened.construct_document(node)
    except RecursionError as error:
        raise door.bad(path, "its values are nested too deeply") from error
    except _MISFITS as error:
        raise door.bad(path, reason(error)) from error


def _check_size(root: yaml.Node) -> None:
    """Count nodes as often as aliases repeat them.

    Raises:
        ValueError: there are too many, they are nested too deeply, or one holds itself.
    """
    waiting, count = [(root, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise ValueError("too deeply nested, or too many values")
        if isinstance(node, yaml.MappingNode):
            waiting += [(item, depth + 1) for pair in node.value for item in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(item, depth + 1) for item in node.value]
