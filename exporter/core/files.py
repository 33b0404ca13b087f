"""Writing files: whole or not at all, and nothing but regular ones."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from exporter.core.errors import UserInputError
from exporter.core.interrupts import undone

PART = ".part"
"""How the names of files end that are being written."""
# The second form is that of earlier versions.
_PART_NAME = re.compile(r"(\.[0-9a-f]{16}|.+\.[0-9a-f]{8})\.part")
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


@contextlib.contextmanager
def replacing(path: Path, *, synced: bool = False, private: bool = False) -> Iterator[Path]:
    """A file to write in place of ``path``: it takes that name when the block ends.

    A block that raises leaves ``path`` as it was, and nothing beside it. Readers see the old file
    or the new one, never a part.

    Args:
        path: may exist; its folder must.
        synced: the bytes survive a power cut before the name does.
        private: its owner alone may read it, from its first byte on.

    Raises:
        UserInputError: ``path`` is a device, a pipe, a folder or a link: what it stands for
            would be lost, or something elsewhere be changed.
        OSError: the folder cannot be written to.
    """
    refuse_special(path)
    part = part_in(path.parent)
    try:
        with undone(lambda: part.unlink(missing_ok=True)):
            if private:
                part.touch(0o600, exist_ok=False)
            yield part
            if synced:
                with part.open("rb+") as stream:
                    os.fsync(stream.fileno())
            os.replace(part, path)
    except OSError as error:
        if error.filename is None:
            # A write that fails does not say to what; only who opened the file knows.
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that goes when the block ends, or a signal ends the program.

    Raises:
        OSError: there is no place for one.
    """
    with (
        tempfile.TemporaryDirectory(prefix="export-verify-", ignore_cleanup_errors=True) as name,
        undone(lambda: shutil.rmtree(name, ignore_errors=True)),
    ):
        yield Path(name)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; what is no regular file is refused, and never waited for.

    Raises:
        UserInputError: it is a pipe, a device, a socket or a folder.
        OSError: it cannot be opened.
    """
    # A pipe would wait for its writer. Looked at once it is open: a name can be given away.
    handle = os.open(path, os.O_RDONLY | _NO_WAIT)
    try:
        _refuse_kind(path, os.fstat(handle).st_mode, "a file that can be read")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def name_of_open(stream: BinaryIO, path: Path) -> Path:
    """A name for the file that is open, whatever has its path by now.

    For libraries that open by name; good until the stream is closed. Where the system has no such
    names it is the path.
    """
    real_path = Path(f"/proc/self/fd/{stream.fileno()}")
    return real_path if real_path.exists() else path


def read_bytes(path: Path) -> bytes:
    """All bytes of a regular file; see ``open_regular`` for what it raises."""
    with open_regular(path) as stream:
        return stream.read()


def read_text(path: Path) -> str:
    """UTF-8 text of a regular file; see ``open_regular`` for what it raises.

    Raises:
        UnicodeDecodeError: it is no such text.
    """
    return read_bytes(path).decode("utf-8")


def append_text(path: Path, text: str) -> None:
    """Add UTF-8 text to a regular file, which is made if it is not there.

    Raises:
        UserInputError: it is a pipe, a device, a socket or a folder.
        OSError: it cannot be opened or written to.
    """
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_WAIT, 0o666)
    with os.fdopen(handle, "ab") as stream:
        _refuse_kind(path, os.fstat(handle).st_mode, "a file that can be added to")
        stream.write(text.encode("utf-8"))


def remove(path: Path) -> None:
    """Take a file away, if it is there.

    Raises:
        UserInputError: it is something else than a regular file.
    """
    refuse_special(path)
    path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically; see ``replacing`` for what it raises."""
    with replacing(path) as part:
        # A name from a disk may hold bytes that are no text; what JSON holds is escaped.
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def part_in(folder: Path) -> Path:
    """A new name for a file that is being written."""
    # Not that of the file: it may be as long as the file system lets it be.
    return folder / f".{secrets.token_hex(8)}{PART}"


def clear_parts(folder: Path) -> None:
    """Take away what writers left that were killed; to be asked for where nobody writes."""
    for path in folder.iterdir() if folder.is_dir() else ():
        # Other programs have files that end so, too.
        if _PART_NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
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
    _refuse_kind(path, mode, "a file that can be replaced")


def _refuse_kind(path: Path, mode: int, wanted: str) -> None:
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
        f"this is {kind}, not {wanted}",
        where=str(path),
        remedy="give the path of a regular file, or of one that does not exist yet",
    )
