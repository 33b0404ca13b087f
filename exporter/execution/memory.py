"""What becomes of memory that was freed: kept for the next window, or given back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MMAP_FROM = 32 << 20  # the largest that glibc takes


class _Counts(ctypes.Structure):
    """``struct mallinfo2`` of glibc 2.33."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        ).split()
    ]


def trim() -> None:
    """Ask glibc to return free heap pages; does nothing where there is no glibc."""
    release = _glibc("malloc_trim")
    if release is not None:
        release(0)


def trim_above(limit: int) -> None:
    """Return free heap pages when they are more than ``limit`` bytes, or cannot be counted.

    Windows free hundreds of arrays of a few megabytes each. Keeping them all, a walk over a deep
    model would hold gigabytes that nobody uses; returning them all, it would get each page from
    the system again, which costs more than computing what is in it.
    """
    count = _glibc("mallinfo2")
    if count is not None:
        count.restype = _Counts
        if count().fordblks <= limit:
            return
    trim()


def keep_freed_pages() -> None:
    """Let glibc reuse freed blocks instead of returning each one to the system at once.

    By default a block of a megabyte or more comes from the system and goes back to it, page by
    page. Blocks below 32 MiB then come from the heap, which shrinks only when it is trimmed.
    """
    option = _glibc("mallopt")
    if option is not None:
        option(_M_MMAP_THRESHOLD, _MMAP_FROM)
        option(_M_TRIM_THRESHOLD, 2**31 - 1)


def _glibc(name: str) -> Callable[..., Any] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
