"""Debug every fault of the graph catalogue and write the table in docs/debug.md.

    python scripts/debug_table.py [--run DIR] [--only NAME ...] [--threads 1] [--output FILE]

Takes a finished run of pipelines/sensevoice_tiny.yaml, or makes one. A second or two a fault.
Exits 1 when fewer than 95% of the faults are named exactly.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from exporter.config import load_pipeline  # noqa: E402
from exporter.debugging.debug_layers import debug_file  # noqa: E402
from exporter.debugging.finding import Finding  # noqa: E402
from exporter.debugging.pair import Pair, load_pair  # noqa: E402
from exporter.execution.deployment import Deployment  # noqa: E402
from exporter.graph.onnx_file import read_model  # noqa: E402
from tests.faults.catalogue import GRAPH_FAULTS  # noqa: E402
from tests.faults.fault import Fault  # noqa: E402

PIPELINE = ROOT / "pipelines" / "sensevoice_tiny.yaml"
GOAL = 0.95
BUDGET = 1 << 30

HEAD = """# What `debug` says about each fault

One row per mistake that was made on purpose in the exported and simplified graph of the tiny
SenseVoice; the file was then given to `export-verify debug --onnx FILE --all`. Written by
`scripts/debug_table.py`.

- **op**: a finding names the op's own layer. **thing**: it names the attribute, weight, constant,
  input or node that was changed. **values**: it gives both values.
- **innocent**: layers that a finding names and that are not to blame.
- **number**: a tap fails against float64 for it; else only the structure shows it.

"""
COLUMNS = (
    "fault",
    "layer and op named",
    "what differs",
    "as exported",
    "in the file",
    "op",
    "thing",
    "values",
    "innocent",
    "number",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What was said about one fault."""

    fault: Fault
    best: Finding | None
    op: bool
    thing: bool
    values: bool
    innocent: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """The op, what was changed and both values, and nobody else."""
        return self.op and self.thing and self.values and not self.innocent


def score(pair: Pair, fault: Fault) -> Score:
    """Debug one tampered file."""
    model = fault.apply(read_model(pair.path), pair.program)
    diagnoses = debug_file(pair, model, pair.path, budget=BUDGET)
    findings = [finding for found in diagnoses for finding in found.findings]
    own = [f for f in findings if f.layer in fault.layers]
    right = [f for f in own if f.kind in fault.finding and _detail(f, fault.detail)]
    best = next(iter(right or own or findings), None)
    return Score(
        fault=fault,
        best=best,
        op=bool(own),
        thing=bool(right) and bool(right[0].thing),
        values=any(f.expected and f.actual for f in right),
        innocent=tuple(dict.fromkeys(f.layer for f in findings if f.layer not in fault.layers)),
    )


def _detail(finding: Finding, detail: str) -> bool:
    return any(detail in text for text in (finding.thing, finding.expected, finding.actual))


def row(found: Score) -> str:
    """One line of the table."""
    best = found.best
    marks = [_mark(found.op), _mark(found.thing), _mark(found.values)]
    innocent = ", ".join(f"`{name or '(root)'}`" for name in found.innocent) or "none"
    name = found.fault.name.replace("_", " ")
    if best is None:
        cells = [name, "nothing", "", "", "", *marks, innocent, "no"]
    else:
        what = f"{best.kind} {_code(best.thing)}".strip()
        place = f"`{best.layer or '(file)'}` {best.op.removeprefix('aten.')}"
        values = [_code(best.expected), _code(best.actual)]
        cells = [name, place, what, *values, *marks, innocent, _mark(best.shown)]
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    text = text.replace("|", "\\|")
    shown = text if len(text) <= 70 else f"{text[:67]}..."
    return f"`{shown}`" if shown else ""


def _mark(value: bool) -> str:
    return "yes" if value else "no"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, help="output folder of a finished run")
    parser.add_argument("--only", nargs="*", default=[], help="names of faults")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "debug.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.run or _run(Path(made), options.threads)
        torch.set_num_threads(options.threads)
        pair = load_pair(
            load_pipeline(PIPELINE),
            folder,
            onnx_path=None,
            case=None,
            deployment=Deployment(threads=options.threads),
        )
        clean = debug_file(pair, read_model(pair.path), pair.path, budget=BUDGET)
        if clean:
            print(f"the clean file is not clean: {[c.layer.name for c in clean]}", file=sys.stderr)
            return 1
        scores: list[Score] = []
        started = time.perf_counter()
        for fault in GRAPH_FAULTS:
            if not options.only or fault.name in options.only:
                scores.append(score(pair, fault))
                print(row(scores[-1]), flush=True)
        seconds = (time.perf_counter() - started) / len(scores)
    exact = sum(found.exact for found in scores)
    share = exact / len(scores)
    summary = f"{exact} of {len(scores)} faults ({share:.0%}) are named exactly: op, thing, both"
    summary += " values, and no innocent layer."
    print(f"{summary}\n{seconds:.1f} s per fault")
    if not options.only:
        options.output.parent.mkdir(exist_ok=True)
        lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *map(row, scores)]
        text = HEAD + "\n".join(lines) + f"\n\n{summary}\n"
        options.output.write_text(text)
    return 0 if share >= GOAL else 1


def _run(folder: Path, threads: int) -> Path:
    from exporter.flows.run import run
    from exporter.report.progress import Progress

    with Progress() as progress:
        run(load_pipeline(PIPELINE), output_dir=folder, progress=progress, threads=threads)
    return folder


if __name__ == "__main__":
    sys.exit(main())
