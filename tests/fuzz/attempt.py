"""One mutated input, and what reads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is tried.

    Attributes:
        argv: the command that reads the input; what is run by command as well.
        call: what reads it in process instead, where a command would do far more than read.
        folder: where a command is run.
    """

    argv: Sequence[str]
    call: Callable[[], object] | None = None
    folder: Path | None = None


Make = Callable[[Random, Path, Path], Attempt]
"""Draws an attempt: generator, corpus (not to be written to), a folder of its own to write to."""


def fifo(folder: Path, name: str = "fifo") -> Path:
    """A pipe that nobody writes to: whoever opens it waits for ever."""
    path = folder / name
    if not path.exists():
        os.mkfifo(path)
    return path
