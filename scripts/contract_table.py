"""Run every toy module under its contract and write the table in docs/contracts.md.

Usage: python scripts/contract_table.py [--check] [CONTRACT ...]

``--check`` writes nothing and exits 1 when a broken module is missed or misnamed, or a healthy one
is accused.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from scripts.marked_page import write_between  # noqa: E402
from tests.contracts.zoo import CONTRACTS, toys  # noqa: E402
from tests.contracts.zoo.toy import Toy  # noqa: E402

BEGIN, END = "<!-- table -->", "<!-- end of table -->"
TARGET = ROOT / "docs" / "contracts.md"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One module on one side."""

    contract: str
    toy: Toy
    side: str
    expected: str
    verdict: str
    where: str
    observed: str
    right_module: bool | None

    @property
    def good(self) -> bool:
        return self.verdict == self.expected and self.right_module is not False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contracts", nargs="*", choices=[*CONTRACTS, []])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [
        row
        for contract in options.contracts or CONTRACTS
        for toy in toys(contract)
        for row in rows_of(contract, toy)
    ]
    text = rendered(rows)
    if options.check:
        print(text.split("\n### ")[0])
    else:
        write_between(TARGET, (BEGIN, END), text)
        print(f"wrote {TARGET.relative_to(ROOT)}")
    bad = [row for row in rows if not row.good]
    for row in bad:
        print(f"WRONG {row.contract} / {row.toy.name} ({row.side}): {row.verdict}, {row.where}")
    return 1 if bad else 0


def rows_of(contract: str, toy: Toy) -> list[Row]:
    """One row per side that is looked at."""
    found = toy.run(contract)
    rows = []
    for side in ("torch", "onnx"):
        expected = getattr(toy, side)
        if expected is None:
            continue
        result = found[side]
        module = toy.onnx_module if side == "onnx" and toy.onnx_module is not None else toy.module
        right = None
        if expected == "fail" and module is not None:
            right = result.where is not None and result.where.module == module
        rows.append(
            Row(
                contract=contract,
                toy=toy,
                side=side,
                expected=expected,
                verdict=str(result.status),
                where=str(result.where) if result.where else "",
                observed=result.observed or result.reason[:80],
                right_module=right,
            )
        )
    return rows


def rendered(rows: list[Row]) -> str:
    """The document."""
    broken = [row for row in rows if row.expected == "fail"]
    healthy = [row for row in rows if row.expected == "pass"]
    named = [row for row in broken if row.right_module is not None]
    caught = sum(row.verdict == "fail" for row in broken)
    right = sum(row.right_module is True for row in named)
    alarms = sum(row.verdict == "fail" for row in healthy)
    lines = [
        "| | |",
        "|---|---|",
        f"| broken, caught | {caught} of {len(broken)} |",
        f"| broken, right module named | {right} of {len(named)} |",
        f"| healthy, false alarms | {alarms} of {len(healthy)} |",
        "",
    ]
    for contract in CONTRACTS:
        own = [row for row in rows if row.contract == contract]
        if not own:
            continue
        lines += [
            f"### {contract}",
            "",
            "| module | side | verdict | observed | where |",
            "|---|---|---|---|---|",
        ]
        for row in own:
            kind = "broken: " if row.expected == "fail" else ""
            mark = "" if row.good else " (WRONG)"
            cells = (kind + row.toy.name, row.side, row.verdict + mark, row.observed, row.where)
            lines.append(
                "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"
            )
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
