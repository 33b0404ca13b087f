"""Plant faults in one file of each system and see what the report says: docs/several_graphs.md.

    python scripts/system_table.py [--check] [SYSTEM ...]

Each system is run once, and then driven with a faulty file in place of its own. Exits 1 where a
healthy system does not pass, or where a fault is not found in its graph alone. With systems named,
the rows of all others stay as they are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from exporter.flows.run_system import run_system  # noqa: E402
from exporter.report.safe_text import figure  # noqa: E402
from exporter.report.system import ResultRecord  # noqa: E402
from exporter.systems.judge_case import JudgedCase  # noqa: E402
from scripts.marked_page import between, replaced  # noqa: E402
from tests.support.planted_systems import (  # noqa: E402
    OPTIONS,
    PLANTED,
    Planted,
    bench,
    failing,
    faulty,
    judged,
    yaml_of,
)

PAGE = ROOT / "docs" / "several_graphs.md"
START, END = "<!-- planted -->", "<!-- /planted -->"
HEAD = "| system | graph | fault | worst call | strain | layer that is named | comes out |"


def rows_of(system: str, work: Path) -> tuple[list[str], bool]:
    """Rows of one system, and whether it passes and all of its faults are found."""
    folder = work / system
    report = run_system(yaml_of(system), OPTIONS, output_dir=folder)
    good = report.exit_code == 0
    rows = [f"| {system} | | nothing | | | | {report.verdict} |"]
    for planted in (held for held in PLANTED if held.system == system):
        file = faulty(folder, planted, work)
        found = judged(bench(system, folder, {planted.graph: file}))
        good &= failing(found) == {planted.graph}
        rows.append(row_of(planted, found))
        print(rows[-1], file=sys.stderr)
    return rows, good


def row_of(planted: Planted, found: JudgedCase) -> str:
    """One fault: the worst call that fails, and what the whole system makes of it."""
    bad = [held for held in found.calls if held.verdict.verdict == "fail"]
    # A call of other integers has no strain: it is wrong, and no figure says how much.
    worst = max(bad, key=lambda held: held.verdict.strain or float("inf"), default=None)
    head = f"| {planted.system} | {planted.graph} | {planted.words}"
    comes = comes_out(found.results[0])
    if worst is None:
        return f"{head} | none fails | | | {comes} |"
    call = f"{worst.worst_call} of {worst.calls}" if worst.calls > 1 else "the only one"
    return f"{head} | {call} | {figure(worst.verdict.strain)} | `{worst.layer}` | {comes} |"


def comes_out(result: ResultRecord) -> str:
    """Token errors, or what the sound is worth."""
    tokens = [held.rate for held in result.errors if held.unit == "token"]
    if tokens:
        return f"tokens {tokens[0]:.2g}" if tokens[0] else "the same tokens"
    sounds = [held.si_sdr_db for held in result.heard if held.si_sdr_db is not None]
    return f"SI-SDR {min(sounds):.0f} dB" if sounds else result.verdict.verdict


def merged(before: str, made: dict[str, list[str]], systems: Sequence[str]) -> list[str]:
    """The whole table: new rows of what was run, the old ones of what was not."""
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    for system in systems:
        old = [line for line in before.splitlines() if line.startswith(f"| {system} |")]
        lines += made.get(system, old)
    return lines


def main() -> int:
    """Write the table, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("systems", nargs="*", help="of these alone")
    given = parser.parse_args()
    systems = list(dict.fromkeys(held.system for held in PLANTED))
    made, good = {}, True
    with tempfile.TemporaryDirectory() as work:
        for system in given.systems or systems:
            made[system], fine = rows_of(system, Path(work))
            good &= fine
    text = PAGE.read_text(encoding="utf-8")
    marks = (START, END)
    lines = merged(between(text, marks), made, systems)
    whole = replaced(text, marks, "\n".join(lines))
    if given.check and whole != text:
        print("docs/several_graphs.md is not what is found now", file=sys.stderr)
        return 1
    if not given.check:
        PAGE.write_text(whole, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
