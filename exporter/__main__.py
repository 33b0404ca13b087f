"""``python -m exporter``: the same as the command ``export-verify``."""

from __future__ import annotations

import os
import sys

from exporter.core.interrupts import end_at_signals


def entry() -> None:
    """Console script ``export-verify``."""
    _take_names_as_utf8()
    # Before anything that takes time to import.
    end_at_signals()
    from exporter.cli import entry as run

    run()


def _take_names_as_utf8() -> None:
    """Start Python again where it takes the names of files as ASCII.

    In the C locale, and told not to use UTF-8 there, it hands every other character on as a
    surrogate, which no library of others opens.
    """
    if sys.getfilesystemencoding() == "ascii" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


if __name__ == "__main__":
    entry()
