"""Give memory that was freed back to the system between windows."""

from __future__ import annotations

import ctypes
import sys


def trim() -> None:
    """Ask glibc to return free heap pages; does nothing where there is no glibc.

    Windows free hundreds of arrays of a few megabytes each. glibc keeps such blocks for reuse, and
    a walk over a deep model would hold a gigabyte that nobody uses.
    """
    if sys.platform.startswith("linux"):
        release = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if release is not None:
            release(0)
