"""YAML as text: what a user typed to values, and values to one line."""

from __future__ import annotations

from typing import Any

import yaml

_WIDE = 10_000


def values_of(given: str) -> Any:
    """What a text of YAML holds; nothing in it runs.

    Raises:
        ValueError: it is no YAML.
    """
    try:
        return yaml.safe_load(given)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"no YAML: {error}") from error


def on_one_line(value: Any) -> str:
    """A value as YAML writes it in one line: ``{dtype: float32, shape: [batch, 80]}``."""
    lines = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=_WIDE
    ).splitlines()
    return lines[0]
