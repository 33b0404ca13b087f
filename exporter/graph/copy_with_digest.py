"""Copy a file, and know the digest of what was written when the copy ends."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_PIECE = 1 << 26
_CHUNK = 1 << 22


def copy_and_digest(source: Path, target: Path) -> Any:
    """Copy ``source`` to ``target``; returns a sha256 object over the bytes of ``target``.

    A piece is read back and hashed while the next one is copied. What was written is what is
    hashed: a source that changes meanwhile cannot give the digest of something else.

    Raises:
        OSError: one of them cannot be read or written.
    """
    digest = hashlib.sha256()
    with (
        source.open("rb", buffering=0) as read,
        target.open("w+b", buffering=0) as written,
        ThreadPoolExecutor(1) as beside,
    ):
        # One thread beside this one: pieces are hashed in their order.
        hashed = []
        begin, size = 0, os.fstat(read.fileno()).st_size
        while begin < size:
            count = _copy(read.fileno(), written.fileno(), begin, min(_PIECE, size - begin))
            if not count:
                break  # it became shorter as it was read
            hashed.append(beside.submit(_hash, digest, written.fileno(), begin, count))
            begin += count
        for piece in hashed:
            piece.result()
    return digest


def _copy(source: int, target: int, begin: int, count: int) -> int:
    """Copy bytes from one place of a file to the same one of another; returns how many."""
    if hasattr(os, "copy_file_range"):
        try:
            # The system copies without bringing the bytes here.
            return os.copy_file_range(source, target, count, begin, begin)
        except OSError:
            pass  # not between these file systems; if it is something else, it comes again below
    data = os.pread(source, min(count, _CHUNK), begin)
    done = 0
    while done < len(data):
        done += os.pwrite(target, data[done:], begin + done)
    return done


def _hash(digest: Any, file: int, begin: int, count: int) -> None:
    end = begin + count
    while begin < end:
        data = os.pread(file, min(_CHUNK, end - begin), begin)
        if not data:
            raise OSError("what was written cannot be read again")
        digest.update(data)
        begin += len(data)
