"""Locks between processes. They end with their process, however it ends.

The kernel's lock on an open file (``flock``) ends with the process that holds it: a dead owner, a
process number that is used again and a clock that went back cannot leave one behind. A file system
that has no such locks (some network file systems) gets a file instead that states its owner's
process number, start and host. Such a file is put aside when its owner is known to be gone: on
this host, when no process has that number, or one that was started at another moment (counted in
ticks since this machine was started, not by its clock). What a process on another host has left
stays until somebody deletes it, which the error says.
"""

from __future__ import annotations

import contextlib
import errno
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
OWNED = ".owned"
"""How the name of a file ends that stands for a lock where the file system has none."""


@contextlib.contextmanager
def locked(path: Path, *, wait: float = 0.0, kept: bool = False) -> Iterator[bool]:
    """Hold ``path`` alone while the block runs; the file goes when it ends, unless it is kept.

    Not for a thread that holds it already: it would wait for itself.

    Args:
        path: of a file that is there for nothing else; its folder must exist.
        wait: seconds.
        kept: for a lock that is taken again and again.

    Yields:
        False when somebody else still holds it after ``wait`` seconds.

    Raises:
        OSError: the folder cannot be written to.
    """
    lock = _acquired(path, wait)
    if lock is None:
        yield False
        return
    try:
        yield True
    finally:
        # Taken away while it is held: whoever waits for the old file sees that it has no name.
        with contextlib.suppress(OSError):
            if not kept:
                Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _acquired(path: Path, wait: float) -> BaseFileLock | None:
    native = FileLock(path, fallback_to_soft=False)
    try:
        return _in_time(native, wait)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        path.unlink(missing_ok=True)
    return _in_time(SoftFileLock(path.with_name(f"{path.name}{OWNED}")), wait)


def _in_time(lock: BaseFileLock, wait: float) -> BaseFileLock | None:
    try:
        with warnings.catch_warnings():
            # It warns of a holder on another host; that is said in this program's own words.
            warnings.simplefilter("ignore")
            lock.acquire(timeout=wait)
    except Timeout:
        return None
    return lock
