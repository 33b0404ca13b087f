"""Rows of a table as lines of JSON in a file: what earlier runs of a script have measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

Row = TypeVar("Row")


def rows_of(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a file, each a dataclass; none where there is no file."""
    if not path.is_file():
        return []
    return [kind(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def add_row(path: Path, row: Any, key: Sequence[str] = ("pipeline",)) -> None:
    """Write a row behind those of a file; one with the same key gives way."""

    def named(other: Any) -> list[Any]:
        return [getattr(other, name) for name in key]

    rows = [other for other in rows_of(path, type(row)) if named(other) != named(row)]
    text = "".join(f"{json.dumps(asdict(item))}\n" for item in [*rows, row])
    path.write_text(text, encoding="utf-8")
