"""Make every fault of the catalogue, check it against the golden, write docs/golden.md's table.

    python scripts/golden_table.py [--only NAME ...] [--threads 1] [--output docs/golden.md]

Exports the tiny SenseVoice once, and once more for each fault in the module. What stands above the
table's heading in the output file is kept. Exits 1 when a fault is missed, or when less than 90 %
name the right layer first.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from exporter.core.errors import StageError  # noqa: E402
from exporter.golden.outcome import GOOD  # noqa: E402
from exporter.golden.store import golden_bytes  # noqa: E402
from tests.faults.catalogue import GRAPH_FAULTS, MODULE_FAULTS  # noqa: E402
from tests.golden.faulty import CASE, FOLDER, Bench, Finding  # noqa: E402
from tests.support.tiny_export import Export, export_tiny  # noqa: E402

HEADING = "## Faults that a check catches"
HEAD = f"""{HEADING}

One row per fault of the catalogue (`docs/faults.md`), made in the exported and simplified graph of
the tiny SenseVoice or in its module, then checked on the case `{CASE}` against
`golden/sensevoice_tiny`, without PyTorch. Written by `scripts/golden_table.py`.

- **first layer**: the layer that the check names first; **right**: it is the fault's.
- **numbers alone**: the same, had the golden no fingerprints of the graph (as when torch, onnx or
  onnxsim have another version than at recording).

| fault | state | outputs that moved | first layer | right | numbers alone |
|---|---|---|---|:-:|:-:|
"""


def findings(clean: Export, bench: Bench, only: list[str]) -> Iterator[Finding]:
    """One finding per fault that leaves a file."""
    for fault in GRAPH_FAULTS:
        if not only or fault.name in only:
            yield bench.check(fault.apply(clean.model, clean.program), fault)
    for fault in MODULE_FAULTS:
        if only and fault.name not in only:
            continue
        try:
            model = export_tiny(fault.change).model
        except StageError:
            continue  # it does not survive export: no file, nothing to check
        yield bench.check(model, fault)


def row(found: Finding) -> str:
    """One line of the table."""
    if found.whole is None:
        cells = [found.fault.name.replace("_", " "), "refused by onnxruntime", "", "", "no", "no"]
        return f"| {' | '.join(cells)} |"
    first = found.whole.first
    cells = [
        found.fault.name.replace("_", " "),
        found.whole.state.value,
        ", ".join(move.name for move in found.whole.outputs) or "none",
        f"`{first.module or '(root)'}`" if first else "none",
        _mark(found.right),
        "right" if found.right_by_numbers else "caught" if found.caught_by_numbers else "no",
    ]
    return f"| {' | '.join(cells)} |"


def summary(found: list[Finding]) -> str:
    """The figures that matter."""
    total = len(found)
    return (
        f"{total} faults leave a file: {sum(f.caught for f in found)} caught,"
        f" {sum(f.right for f in found)} with the right layer first"
        f" ({100 * sum(f.right for f in found) / total:.0f} %). By numbers alone:"
        f" {sum(f.caught_by_numbers for f in found)} caught,"
        f" {sum(f.right_by_numbers for f in found)} with the right layer first"
        f" ({100 * sum(f.right_by_numbers for f in found) / total:.0f} %). The golden has"
        f" {golden_bytes(FOLDER):,} bytes."
    )


def _mark(value: bool) -> str:
    return "yes" if value else "no"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="names of faults")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "golden.md")
    options = parser.parse_args()
    clean = export_tiny()
    torch.set_num_threads(options.threads)
    bench = Bench(options.threads)
    reference = bench.check(clean.model, GRAPH_FAULTS[0])
    if reference.whole is None or reference.whole.state not in GOOD:
        print(f"the clean file does not pass: {reference}", file=sys.stderr)
        return 1
    found: list[Finding] = []
    started = time.perf_counter()
    for finding in findings(clean, bench, options.only):
        found.append(finding)
        print(row(finding), flush=True)
    print(f"{summary(found)}\n{(time.perf_counter() - started) / len(found):.1f} s per fault")
    if not options.only:
        before = options.output.read_text() if options.output.exists() else ""
        text = before.partition(HEADING)[0] + HEAD + "\n".join(map(row, found))
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(f"{text}\n\n{summary(found)}\n")
    right = sum(f.right for f in found) / len(found)
    return 0 if all(f.caught for f in found) and right >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
