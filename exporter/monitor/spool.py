"""Recordings on their way to the shadow worker: files in a folder, whole or absent, bounded.

    SPOOL/<time>-<number>.npz     a request: inputs and the outputs that were served; 0600
          <...>.npz.taken         the one that the worker has in hand
          <...>.npz.again         the same, tried once more after a worker died with it
          results.jsonl           one line per request that was judged
          service.json            the file that is served
          worker.json             the worker's counts, and when it was last there

A request is a file under its name only when it is whole. The worker takes one by renaming it, adds
its line to the results and then takes the file away; whoever kills it loses at most what it had in
hand, and not even that the first time: a taken file is tried once more.
"""

from __future__ import annotations

import io
import itertools
import os
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporter.core.errors import UserInputError
from exporter.core.files import clear_parts, read_bytes, replacing
from exporter.core.tensors import Arrays

SUFFIX, TAKEN, AGAIN = ".npz", ".npz.taken", ".npz.again"
WORKER, RESULTS, SERVICE = "worker.json", "results.jsonl", "service.json"
MOST_BYTES = 256 << 20
MOST_FILES = 1000
_INPUT, _OUTPUT = "in.", "out."


class SpoolFullError(Exception):
    """There is no room for another request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was served.

    Attributes:
        name: of its file, without suffix: time and number.
        inputs, outputs: by name.
    """

    name: str
    inputs: Arrays
    outputs: Arrays


class Spool:
    """The writing side; one process writes to a folder, one worker reads.

    Args:
        folder: made if it is not there, for its owner alone.
        most_bytes, most_files: what requests that wait may take together.

    Raises:
        UserInputError: a bound is none. OSError: the folder cannot be made.
    """

    def __init__(
        self, folder: Path, *, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES
    ) -> None:
        if most_bytes < 1 or most_files < 1:
            raise UserInputError("a spool for nothing", remedy="give bytes and files, 1 or more")
        self.folder = folder
        self.most_bytes, self.most_files = most_bytes, most_files
        self._numbers = itertools.count()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        clear_parts(folder)

    def add(self, inputs: Arrays, outputs: Arrays) -> str:
        """Keep a request; returns its name.

        Raises:
            SpoolFullError: there is no room. OSError: it cannot be written.
        """
        files, bytes_waiting = waiting(self.folder)
        buffer = io.BytesIO()
        arrays = {f"{_INPUT}{name}": value for name, value in inputs.items()}
        arrays |= {f"{_OUTPUT}{name}": value for name, value in outputs.items()}
        np.savez(buffer, allow_pickle=False, **arrays)
        data = buffer.getbuffer()
        if files >= self.most_files or bytes_waiting + len(data) > self.most_bytes:
            raise SpoolFullError
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(self._numbers):06d}"
        with replacing(self.folder / f"{name}{SUFFIX}", private=True) as part:
            part.write_bytes(data)
        return name


def waiting(folder: Path) -> tuple[int, int]:
    """Number of requests that wait in a folder, and their bytes; the one in hand is among them."""
    files = total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((SUFFIX, TAKEN, AGAIN)):
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue  # the worker has finished it meanwhile
                files += 1
    return files, total


def requests_in(folder: Path, *suffixes: str) -> list[Path]:
    """Requests in these states, the oldest first."""
    return sorted(path for path in folder.iterdir() if path.name.endswith(suffixes or (SUFFIX,)))


def name_of(path: Path) -> str:
    """The name of a request, in whatever state it is."""
    return path.name.partition(SUFFIX)[0]


def take(path: Path) -> Path:
    """Take a request in hand, for the first time or after a worker died with it."""
    suffix = AGAIN if path.name.endswith(TAKEN) else TAKEN
    taken = path.with_name(f"{name_of(path)}{suffix}")
    os.replace(path, taken)
    return taken


def read_request(path: Path) -> Request:
    """Read what was taken.

    Raises:
        UserInputError: it is no request.
    """
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as stored:
            arrays: dict[str, Any] = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserInputError(
            f"not a request of a monitor ({error})", where=str(path), remedy="take it away"
        ) from error
    return Request(
        name=name_of(path),
        inputs=_named(arrays, _INPUT),
        outputs=_named(arrays, _OUTPUT),
    )


def _named(arrays: dict[str, np.ndarray], head: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(head): value for key, value in arrays.items() if key.startswith(head)}
