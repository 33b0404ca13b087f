"""Join files in which values are easily taken for others, and count what is joined wrongly.

    python scripts/decoy_table.py [--count 200] [--first 2000] [--forms float32 qdq ...] [--write]

A decoy is a pair of files drawn from a seed (``tests/joining/decoys.py``): twin branches with
nearly equal weights, branches in another order, names that have changed places, a wrong weight, an
activation that is gone. A row is one precision of the second file. Exits 1 where a value was joined
with a wrong one, or nothing was joined at all.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from exporter.joining import join_graphs  # noqa: E402
from exporter.joining.joined import Proof  # noqa: E402
from scripts.marked_page import write_between  # noqa: E402
from tests.joining.decoys import drawn, inputs, wrong_joins  # noqa: E402
from tests.joining.lowered_decoys import FORMS, lowered  # noqa: E402

PAGE = ROOT / "docs" / "foreign.md"
MARK = "<!-- decoys -->", "<!-- /decoys -->"
PLAIN, CUT = "float32", "float32, products cut in two"
ALL = (PLAIN, CUT, *FORMS)
HEAD = (
    "| second file | decoys | values joined | of them by role | joined with a wrong value | CPU |\n"
)
HEAD += "|---|--:|--:|--:|--:|--:|"


@dataclass
class Row:
    """All decoys in one precision.

    Attributes:
        shares: of the values of each decoy that are joined. wrong: in words, by decoy.
        seconds: of computing.
    """

    form: str
    shares: list[float] = field(default_factory=list)
    roles: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def line(self) -> str:
        share = sum(self.shares) / max(1, len(self.shares))
        return (
            f"| {self.form} | {len(self.shares)} | {100 * share:.0f} % | {self.roles} |"
            f" {len(self.wrong)} | {self.seconds:.0f} s |"
        )

    @property
    def good(self) -> bool:
        """Whether no value is joined with a wrong one, and that not by joining nothing."""
        return not self.wrong and any(self.shares)


def joined(form: str, seeds: range) -> Row:
    """The row of one precision."""
    row, began = Row(form), time.process_time()
    for seed in seeds:
        pair = lowered(seed, form) if form in FORMS else drawn(seed, cut=form == CUT)
        with tempfile.TemporaryDirectory() as folder:
            found = join_graphs(pair.expected, pair.actual, inputs(seed), Path(folder))
        row.wrong += [f"{pair.story}: {said}" for said in wrong_joins(pair, found)]
        row.shares.append(found.share)
        row.roles += sum(join.proof is Proof.ROLE for join in found.joins)
    row.seconds = time.process_time() - began
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="decoys in each precision")
    parser.add_argument("--first", type=int, default=2000, help="the first seed")
    parser.add_argument("--forms", nargs="*", default=ALL, choices=ALL)
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    print(HEAD, flush=True)
    rows = []
    for form in options.forms:
        rows.append(joined(form, range(options.first, options.first + options.count)))
        print("\n".join([rows[-1].line(), *rows[-1].wrong]), flush=True)
    if options.write:
        table = "\n".join([HEAD, *(row.line() for row in rows)])
        write_between(PAGE, MARK, table)
    return int(not all(row.good for row in rows))


if __name__ == "__main__":
    sys.exit(main())
