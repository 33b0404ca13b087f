"""Memory of this machine and of a process, as the system tells it.

Linux has all of it under ``/proc``; elsewhere POSIX's ``sysconf`` knows the whole, and ``ps`` the
resident set of a process.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_SAID = Path("/proc/meminfo")
_USUAL = 8 << 30
"""Bytes that are taken for the whole where the system does not tell."""


def total_memory() -> int:
    """Bytes of this machine's memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # a system without POSIX
        return _USUAL


def available_memory() -> int:
    """Bytes that new work could take without swapping; half of all where the system is silent."""
    try:
        entries = (entry.split(":", 1) for entry in _SAID.read_text().splitlines())
        return int(dict(entries)["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return total_memory() // 2


def resident_bytes(process: int | None = None) -> int | None:
    """Resident memory of a process, this one by default; None where nobody can tell."""
    number = os.getpid() if process is None else process
    if not Path("/proc/self").exists():
        return _by_ps(number)
    try:
        pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _by_ps(number: int) -> int | None:
    try:
        said = subprocess.run(  # noqa: S603 - a number
            ["ps", "-o", "rss=", "-p", str(number)],  # noqa: S607 - POSIX's own
            capture_output=True,
            text=True,
            check=True,
        )
        return int(said.stdout) << 10
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
