"""Call streams wrongly and see what the contract says: the table in docs/streams.md.

    python scripts/stream_table.py [--check]

PyTorch's side alone: what is planted is in the call, and the file would be called alike. Exits 1
where something planted is not found, or is told as something else.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from exporter.parity.status import Status  # noqa: E402
from tests.support.planted_streams import PIPELINES, PLANTED, judged, load  # noqa: E402

PAGE = ROOT / "docs" / "streams.md"
START, END = "<!-- planted -->", "<!-- /planted -->"


def table() -> tuple[list[str], bool]:
    """Lines of Markdown, and whether all was found."""
    lines = ["| pipeline | planted | verdict | what is told | where |", "|---|---|---|---|---|"]
    good = True
    for name in PIPELINES:
        pipeline, wrapped = load(name)
        healthy = judged(pipeline, wrapped)
        good &= healthy.status is Status.PASS
        lines.append(f"| {name} | nothing | {healthy.status} | {healthy.observed} | |")
        for planted in (p for p in PLANTED if p.pipeline == name):
            found = judged(pipeline, wrapped, planted)
            good &= found.status is Status.FAIL and planted.told in found.reason
            told = found.reason.partition(": ")[2].partition("; worst")[0] or found.reason
            where = str(found.where).partition(" at ")[0].removeprefix("model.")
            lines.append(f"| {name} | {planted.words} | {found.status} | {told} | `{where}` |")
            print(lines[-1], file=sys.stderr)
    return lines, good


def main() -> int:
    """Write the table, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    lines, good = table()
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    made = f"{before}{START}\n" + "\n".join(lines) + f"\n{END}{after}"
    if check and made != text:
        print("docs/streams.md is not what is found now", file=sys.stderr)
        return 1
    if not check:
        PAGE.write_text(made, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
