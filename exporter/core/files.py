"""Writing files: whole or not at all, and nothing but regular ones."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from exporter.core.errors import UserInputError

PART = ".part"
"""How the names of files end that are being written."""


@contextlib.contextmanager
def replacing(path: Path, *, synced: bool = False) -> Iterator[Path]:
    """A file to write in place of ``path``: it takes that name when the block ends.

    A block that raises leaves ``path`` as it was, and nothing beside it. Readers see the old file
    or the new one, never a part.

    Args:
        path: may exist; its folder must.
        synced: the bytes survive a power cut before the name does.

    Raises:
        UserInputError: ``path`` is a device, a pipe, a folder or a link: what it stands for
            would be lost, or something elsewhere be changed.
        OSError: the folder cannot be written to.
    """
    refuse_special(path)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        yield part
        if synced:
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically; see ``replacing`` for what it raises."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def clear_parts(folder: Path) -> None:
    """Take away what writers left that were killed; to be asked for where nobody writes."""
    for path in folder.glob(f"*{PART}"):
        if path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def refuse_special(path: Path) -> None:
    """Check that ``path`` is a regular file or free.

    Raises:
        UserInputError: it is something else.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(mode):
        return
    kinds = {
        "a folder": stat.S_ISDIR,
        "a symbolic link": stat.S_ISLNK,
        "a pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
    }
    kind = next((name for name, is_kind in kinds.items() if is_kind(mode)), "a device")
    raise UserInputError(
        f"this is {kind}, not a file that can be replaced",
        where=str(path),
        remedy="give the path of a regular file, or of one that does not exist yet",
    )
