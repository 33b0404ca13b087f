"""``python -m exporter``: the same as the command ``export-verify``."""

from __future__ import annotations

from exporter.core.interrupts import end_at_signals


def entry() -> None:
    """Console script ``export-verify``."""
    # Before anything that takes time to import.
    end_at_signals()
    from exporter.cli import entry as run

    run()


if __name__ == "__main__":
    entry()
