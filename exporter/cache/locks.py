"""Locks between processes that end with their process, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a Unix: entries are still moved into place whole, but may go while read
    fcntl = None


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold ``path`` together with others who read; waits for one who is taking it away."""
    with _open(path) as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def alone(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold ``path`` alone.

    Yields:
        False, without waiting, when ``wait`` is False and somebody else holds it.
    """
    with _open(path) as stream:
        if fcntl is None:
            yield True
            return
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _open(path: Path):  # noqa: ANN202 - a binary stream, whatever class it has
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")
