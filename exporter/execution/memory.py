"""What becomes of memory that was freed: kept for the next window, or given back."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

from exporter.core.memory import resident_bytes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # malloc.h
_LARGEST_THRESHOLD = 32 << 20  # glibc takes no larger one


def trim() -> None:
    """Ask glibc to return free heap pages; does nothing where there is no glibc."""
    release = _glibc("malloc_trim")
    if release is not None:
        release(0)


def keep_freed_pages() -> None:
    """Let glibc reuse freed blocks, whatever their size, instead of returning each one at once.

    By default a block of a megabyte or more comes from the system and goes back to it, page by
    page, and touching a new page costs more than computing what is in it. All blocks then come
    from the heap, which shrinks only when it is trimmed.
    """
    _mallopt(_M_MMAP_MAX, 0)
    _mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextlib.contextmanager
def old_objects_left_alone() -> Iterator[None]:
    """Python does not search for garbage among what is alive now, until the end of the block.

    A captured program is hundreds of thousands of objects, and all of them are searched whenever
    a quarter as many have come on top, which takes as long as a forward pass. Where the process
    has objects set aside already this does nothing: its end would bring those back as well.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def large_blocks_from_system() -> None:
    """Let blocks from 32 MiB on go back to the system at once, until the next walk.

    For walks over values so large that a handful of freed ones would fill the memory.
    """
    _mallopt(_M_MMAP_MAX, 65_536)  # glibc's own number of such blocks
    _mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)


def _mallopt(name: int, value: int) -> None:
    option = _glibc("mallopt")
    if option is not None:
        option(name, value)


class FreedPages:
    """Freed pages of a walk: kept up to a bound, because the next window fills them again.

    The bound is on what the process has resident beyond what it had after the last trim. glibc's
    own count of free bytes will not do: it also counts pages that a trim has returned already,
    so that a heap with holes would be trimmed after every window, and touched anew in the next.

    Args:
        bound: bytes.
    """

    def __init__(self, bound: int):
        self._bound = bound
        self._floor = resident_bytes()
        self.trims = 0

    def settle(self) -> None:
        """Return free pages when more than the bound has come on top since they last were."""
        now = resident_bytes()
        if now is None or self._floor is None or now - self._floor > self._bound:
            self.give_back()
        else:
            self._floor = min(self._floor, now)

    def give_back(self) -> None:
        """Return free pages now."""
        trim()
        self.trims += 1
        self._floor = resident_bytes()


def _glibc(name: str) -> Callable[..., Any] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
