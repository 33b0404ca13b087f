"""JSON lines of bounded size: when a file is full it becomes ``.1``, and the one before it goes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from exporter.core.files import append_text, refuse_special
from exporter.core.reading import Door

MOST_BYTES = 16 << 20
_MOST_DIGITS = 19


class RequestLog:
    """Rows with the time at which they were added, in seconds since 1970.

    Args:
        path: made with the first row; readable by its owner alone, as all that is kept of audio.
        most_bytes: of each of the two files.
    """

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES):
        self.path = path
        self._most = most_bytes

    def add(self, row: Mapping[str, object]) -> None:
        """Add a row; a line that a killed process left half is closed first.

        Raises:
            OSError, UserInputError: the file cannot be written to.
        """
        text = json.dumps({"time": time.time(), **row}) + "\n"
        refuse_special(self.path)
        size = self.path.stat().st_size if self.path.exists() else 0
        if size + len(text) > self._most and size:
            os.replace(self.path, self.path.with_name(f"{self.path.name}.1"))
            size = 0
        if not size:
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        append_text(self.path, f"\n{text}" if size and not _ends_whole(self.path) else text)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def read_log(path: Path, door: Door) -> Iterator[dict[str, Any]]:
    """Rows, oldest first, of the older file too; lines that are no whole row are left out.

    Raises:
        UserInputError: there is no log.
    """
    older = path.with_name(f"{path.name}.1")
    for file in (*((older,) if older.exists() else ()), path):
        for line in door.bytes(file).splitlines():
            try:
                row = json.loads(line, parse_int=_number)
            except (ValueError, RecursionError):
                continue  # a process was killed while it wrote this, or it is no row
            if isinstance(row, dict):
                yield row


def _number(digits: str) -> int | float:
    """What no count is, and no float may hold, is infinite: nobody computes with it by accident."""
    return int(digits) if len(digits) < _MOST_DIGITS else float(digits)
