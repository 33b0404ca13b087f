"""Plant faults in streams and see what the contract says: the tables in docs/streams.md.

    python scripts/stream_table.py [--check]

In the call (PyTorch's side alone: the file would be called alike), in the ONNX file, and, for a
batch as it is served, in the module. Exits 1 where something planted is not found, or is told as
something else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from exporter.contracts.result import ContractResult  # noqa: E402
from exporter.parity.status import Status  # noqa: E402
from scripts.marked_page import replaced  # noqa: E402
from tests.support.planted_rows import FAULTS, judged_rows  # noqa: E402
from tests.support.planted_stream_files import (  # noqa: E402
    PLANTED_FILES,
    judged_file,
    stand_of,
)
from tests.support.planted_streams import PIPELINES, PLANTED, judged, load  # noqa: E402

PAGE = ROOT / "docs" / "streams.md"
HEAD = ("| pipeline | planted | verdict | what is told | where |", "|---|---|---|---|---|")
Table = tuple[list[str], bool]


def in_calls() -> Table:
    """Lines of Markdown, and whether all was found."""
    lines, good = list(HEAD), True
    for name in PIPELINES:
        pipeline, wrapped = load(name)
        healthy = judged(pipeline, wrapped)
        good &= healthy.status is Status.PASS
        lines.append(row(name, "nothing", healthy))
        for planted in (p for p in PLANTED if p.pipeline == name):
            found = judged(pipeline, wrapped, planted)
            good &= found.status is Status.FAIL and planted.told in found.reason
            lines.append(row(name, planted.words, found))
    return lines, good


def in_files() -> Table:
    """The same of faults in ONNX files."""
    lines, good = list(HEAD), True
    with tempfile.TemporaryDirectory() as work:
        for name in PIPELINES:
            stand = stand_of(name, Path(work) / name)
            healthy = judged_file(stand, None, Path(work))
            good &= healthy.status is Status.PASS
            lines.append(row(name, "nothing", healthy))
            for planted in (p for p in PLANTED_FILES if p.pipeline == name):
                found = judged_file(stand, planted, Path(work))
                good &= found.status is Status.FAIL and planted.told in found.reason
                good &= planted.where in str(found.where)
                lines.append(row(name, planted.words, found))
    return lines, good


def in_rows() -> Table:
    """The same of what a row does to another in SenseVoice with a language per row."""
    lines, good = list(HEAD), True
    for fault in FAULTS:
        found = judged_rows(fault)
        good &= found.status is (Status.FAIL if fault else Status.PASS)
        lines.append(row("sensevoice_rows", fault or "nothing", found))
    return lines, good


def row(name: str, planted: str, found: ContractResult) -> str:
    """One line of a table."""
    if found.status is Status.PASS:
        line = f"| {name} | {planted} | {found.status} | {found.observed} | |"
    else:
        told = found.reason.partition(": ")[2].partition("; worst")[0] or found.reason
        where = str(found.where).partition(" at ")[0].removeprefix("model.")
        line = f"| {name} | {planted} | {found.status} | {told} | `{where}` |"
    print(line, file=sys.stderr)
    return line


TABLES = {"planted": in_calls, "planted files": in_files, "planted rows": in_rows}


def main() -> int:
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    text = made = PAGE.read_text(encoding="utf-8")
    good = True
    for mark, table in TABLES.items():
        lines, fine = table()
        good &= fine
        marks = f"<!-- {mark} -->", f"<!-- /{mark} -->"
        made = replaced(made, marks, "\n".join(lines))
    if check and made != text:
        print("docs/streams.md is not what is found now", file=sys.stderr)
        return 1
    if not check:
        PAGE.write_text(made, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
