"""Give a file a second place without reading it where the file system can do that."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from exporter.core.files import replacing

try:
    import fcntl
except ImportError:
    fcntl = None

_FICLONE = 0x40049409  # linux/fs.h


def place(source: Path, target: Path) -> None:
    """Let ``target`` hold what ``source`` holds; an older ``target`` is replaced at once.

    A clone of the blocks where the file system has it, else another name of the same file, else a
    copy; never a symbolic link. Whoever changes such a file later has to write a new one and move
    it into place, as everything in this package does.

    Raises:
        OSError: there is no room, or no permission.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part:
        if not _cloned(source, part) and not _linked(source, part):
            shutil.copyfile(source, part)


def _cloned(source: Path, target: Path) -> bool:
    if fcntl is None or not sys.platform.startswith("linux"):
        return False
    try:
        with source.open("rb") as read, target.open("wb") as write:
            fcntl.ioctl(write.fileno(), _FICLONE, read.fileno())
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False
    return True
