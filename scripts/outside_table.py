"""Run the small models of tests/outside and print what is right beside what is seen.

    python scripts/outside_table.py [--only NAME ...]

Exits 1 when an answer is not the right one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("EXPORT_VERIFY_CACHE", "off")

from tests.outside.table import TABLE, Row, Seen, ask  # noqa: E402

HEAD = "| model | what is right | what is seen | right | seconds |\n|---|---|---|:-:|--:|"


def line(row: Row, seen: Seen, wrong: str, seconds: float) -> str:
    """One row of the table."""
    words = f"{seen.verdict}: {seen.words()}".replace("|", "/")[:160]
    mark = f"no: {wrong}".replace("|", "/")[:100] if wrong else "yes"
    return f"| `{row.name}` | {row.right} | {words} | {mark} | {seconds:.1f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="names of models")
    options = parser.parse_args()
    unknown = set(options.only) - {row.name for row in TABLE}
    if unknown:
        parser.error(f"no such model: {', '.join(sorted(unknown))}")
    chosen = [row for row in TABLE if not options.only or row.name in options.only]
    right = 0
    print(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        for row in chosen:
            started = time.perf_counter()
            seen = ask(row.name, Path(folder) / row.name)
            wrong = row.check(seen)
            right += not wrong
            print(line(row, seen, wrong, time.perf_counter() - started), flush=True)
    print(f"\n{right} of {len(chosen)} right")
    return 0 if right == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
