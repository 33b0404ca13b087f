"""What a disk refuses is the user's to mend: it is said with path and remedy, and early."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from exporter.core.errors import UserInputError
from exporter.core.files import part_in

LEAST_FREE = 8 << 20
"""With fewer free bytes not even a tiny pipeline can be run to its end."""
_PACKAGE = Path(__file__).resolve().parents[1]
_ELSEWHERE = "give a path on another disk, or repair this one"
_SHORTER = "give a path that leads to a file or folder of its own"
_RIGHTS = "change its permissions, or give a path that you may write to"
_ROOM = "free some space, or give a path on another disk"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or give a path on another disk",
    errno.EROFS: "give a path on a disk that can be written to",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EIO: _ELSEWHERE,
    errno.ESTALE: _ELSEWHERE,
    errno.ENXIO: _ELSEWHERE,
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ELOOP: _SHORTER,
    errno.ENOTDIR: _SHORTER,
    errno.EISDIR: _SHORTER,
    errno.EMFILE: "let a process open more files (ulimit -n)",
    errno.ENFILE: "close other programs: the system cannot open more files",
}
"""errno -> what a user can do about it."""
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_GONE = "let nothing else take files away while they are in use, and try again"
# What the libraries that are written in Rust say of an error of the system.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def disk_error(error: BaseException) -> UserInputError | None:
    """What to tell a user whose disk refused something; ``None`` when the disk is not the reason.

    Looks at the error and at what it was raised from.
    """
    for cause in _chain(error):
        if isinstance(cause, UserInputError):
            return None  # it was told apart already
        if isinstance(cause, OSError):
            number, path = cause.errno, cause.filename
        elif (match := _OS_ERROR.search(str(cause))) is not None:
            number, path = int(match[1]), None
        else:
            continue
        told = _told(number, path)
        if told is not None:
            return told
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _told(number: int | None, path: object) -> UserInputError | None:
    where = None if path is None or isinstance(path, int) else os.fsdecode(str(path))
    if number == errno.ENOENT and where is not None:
        # A file of this package that is not there is a bug of ours, or of the installation.
        if Path(where).absolute().is_relative_to(_PACKAGE):
            return None
        return UserInputError(
            "there is no such file or folder (any more)", where=where, remedy=_GONE
        )
    if number not in _REMEDIES:
        return None
    return UserInputError(
        f"the system refuses it: {os.strerror(number)}", where=where, remedy=_REMEDIES[number]
    )


def refuse_undecodable(path: Path, what: str) -> None:
    """Check that a path is text: what is none can be opened here, and by no library of others.

    Raises:
        UserInputError: its bytes are no UTF-8.
    """
    try:
        str(path.absolute()).encode("utf-8")
    except UnicodeEncodeError as error:
        shown = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
        raise UserInputError(
            f"{what}: the name of this file or folder, or of one above it, is not text in UTF-8",
            where=shown,
            remedy="rename it",
        ) from error


def writable_folder(folder: Path, what: str, *, keep: bool = True) -> None:
    """Make a folder, and check that files can be written to it, before any work is done.

    Args:
        what: what the folder is for, as the user calls it ("--output-dir").
        keep: False takes away again what was made: the work may find nothing to write.

    Raises:
        UserInputError: it cannot be made, is no folder, is read-only, or its disk is full.
    """
    refuse_undecodable(folder, what)
    absent = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permissions do not tell: root may write anywhere, but not to a disk that is read-only.
        probe = part_in(folder)
        try:
            probe.write_bytes(bytes(1 << 12))
        finally:
            probe.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
        for path in () if keep else absent:
            path.rmdir()
    except FileExistsError as error:
        raise UserInputError(
            f"{what}: this is no folder", where=str(folder), remedy=_SHORTER
        ) from error
    except ValueError as error:  # a NUL in the name
        raise UserInputError(f"{what}: no path: {error}", where=repr(str(folder))) from error
    except OSError as error:
        told = disk_error(error)
        if told is None:
            raise
        raise UserInputError(
            f"{what}: {told.problem}", where=str(folder), remedy=told.remedy
        ) from error
    if free < LEAST_FREE:
        raise UserInputError(
            f"{what}: only {free:,} bytes are free here, a run needs {LEAST_FREE:,} at least",
            where=str(folder),
            remedy=_ROOM,
        )


def size_in_bytes(text: str) -> int | None:
    """``1GiB``, ``512MB``, ``2G`` or a number of bytes; None for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?)?b?\s*", text, re.IGNORECASE)
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()]) if match else None
