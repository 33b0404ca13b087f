"""One reader, given bytes that atheris (libFuzzer) finds by the branches which they reach.

    python -m tests.fuzz.coverage_guided NAME [-runs=N | -max_total_time=SECONDS] [FOLDER]

NAME is one of ``tests.fuzz.test_fuzz.READERS``, or "planted" for one that raises; FOLDER holds
files to begin with, and takes those that reach something new. Ends with the traceback of the first
exception that is no sentence for the user. A process of its own: atheris does not come back.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris


def main(name: str, arguments: list[str]) -> None:
    """Fuzz the reader of one kind of file; does not return."""
    # The package has no types.
    instrument: Any = atheris.instrument_imports  # type: ignore[attr-defined]
    with instrument(include=["exporter"], enable_loader_override=False):
        from tests.fuzz.test_fuzz import refused_or_read

    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))

    def one(data: bytes) -> None:
        if name == "planted":
            _ = 1 / (len(data) < 4)  # a bug, to see that one is found
        else:
            refused_or_read(name, folder, data)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
