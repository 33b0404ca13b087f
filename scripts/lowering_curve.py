"""How many outputs change as more and more of a file is in a lower precision?

    python scripts/lowering_curve.py PIPELINE.yaml [...] --results FILE [--to int8] [--write]

Layers are lowered in the order of their predicted squared effect on the default case for every
byte that lowering them saves. Errors that add up at random add up in squares, so that up to each
point of this order no other choice of layers makes a file as small with less predicted error: what
turns there turns however one chooses. Each file is run on all cases; counted are elements of
integer outputs that are not PyTorch's beyond float32's own noise, of how many there are.
Lines of JSON, one per pipeline, stand in ``--results``, also those of earlier runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from exporter.cases.load import load_cases  # noqa: E402
from exporter.config.run_options import RunOptions  # noqa: E402
from exporter.core.tensors import Arrays  # noqa: E402
from exporter.execution.deployment import Deployment  # noqa: E402
from exporter.execution.onnx_runs import FileRun  # noqa: E402
from exporter.flows.prepare import prepare  # noqa: E402
from exporter.graph.onnx_file import bytes_of, open_graph  # noqa: E402
from exporter.graph.wrap import narrowed, wrap  # noqa: E402
from exporter.interpret.propagated import targets_of  # noqa: E402
from exporter.judge.reference_run import reference_run  # noqa: E402
from exporter.lowering.effects import effects_of  # noqa: E402
from exporter.lowering.gains import bytes_saved  # noqa: E402
from exporter.lowering.outcome import TargetRun, truth_of  # noqa: E402
from exporter.lowering.own_errors import LoweredFile, own_errors  # noqa: E402
from exporter.lowering.rounds import Wanted  # noqa: E402
from exporter.lowering.search import Search  # noqa: E402
from exporter.report.progress import Progress  # noqa: E402
from scripts.marked_page import write_between  # noqa: E402
from scripts.row_lines import add_row, rows_of  # noqa: E402

PAGE = ROOT / "docs" / "lower.md"
MARK = "<!-- curve -->", "<!-- /curve -->"
SIZES = (1.0, 0.99, 0.97, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35)
"""Sizes of the files that are tried, in parts of the float32 file; the last has all lowered."""
ROUNDS = 3


@dataclass
class Point:
    """A file: layers that are lowered, its size, its largest error, and what turned."""

    lowered: int
    size: float
    predicted: float
    error: float | None
    flips: int
    turned: int
    seconds: float


@dataclass
class Row:
    """One pipeline: its files, from nothing lowered to everything."""

    pipeline: str
    to: str
    layers: int
    cases: int
    elements: int
    points: list[dict]


def measured(path: Path, given: argparse.Namespace) -> Row:
    """One pipeline."""
    options = RunOptions(trust=True, threads=given.threads, output_dir=given.output_dir)
    ready = prepare(path, options)
    progress = Progress(verbose=True)
    wrapped = wrap(ready.pipeline)
    torch.set_num_threads(ready.threads)
    own = reference_run(ready.pipeline, wrapped, ready.folder, ready.threads, progress)
    inputs = narrowed(wrapped, own.program).inputs
    del wrapped
    names = [case.name for case in ready.pipeline.cases]
    cases = load_cases(ready.pipeline, inputs, names)
    first = next(case for case in cases if case.name == ready.pipeline.default_case)
    deployment = Deployment(threads=ready.threads)
    targets = targets_of(own.program)
    with tempfile.TemporaryDirectory() as folder:
        search = Search(
            source=own.shipped,
            program=own.program,
            cases=[first],
            folder=Path(folder),
            deployment=deployment,
            budget=ready.budget,
            wanted=Wanted(to=given.to, max_error=1.0),
            stages=progress,
        )
        with progress.stage("lower everything"):
            layers, file = search.layers()
        with progress.stage("errors of the layers"):
            (errors,) = own_errors(own.program, file, [first.inputs], deployment, ready.budget)
        with progress.stage("effects"):
            effects, _ = effects_of(
                own.program,
                first.inputs,
                layers,
                errors.errors,
                targets,
                directions=given.directions,
            )
        with progress.stage("PyTorch on all cases"):
            truths = [truth_of(own.program, case.inputs, targets) for case in cases]
        damage = np.nan_to_num(effects.damage, nan=np.inf)
        saved = bytes_saved(layers, given.to)
        order = np.argsort(np.square(damage) / np.maximum(saved, 1.0))
        whole = float(bytes_of(own.shipped))
        points: list[Point] = []
        for count in counts(saved[order], whole):
            target = search.folder / "tried.onnx"
            with progress.stage(f"{count} of {len(layers)}"):
                search.write(target, [layers[n] for n in order[count:]])
                held = LoweredFile.of(own.program, open_graph(target))
                run = TargetRun(own.program, target, held, targets, deployment)
                pairs = zip(cases, truths, strict=True)
                outcomes = [run.outcome(case.inputs, truth) for case, truth in pairs]
                known = [o.error for o in outcomes if o.error is not None]
                points.append(
                    Point(
                        lowered=count,
                        size=bytes_of(target) / whole,
                        predicted=float(np.sqrt(np.sum(np.square(damage[order[:count]])))),
                        error=max(known, default=None),
                        flips=sum(o.flips for o in outcomes),
                        turned=sum(o.turned for o in outcomes),
                        seconds=seconds_of(target, deployment, first.inputs),
                    )
                )
                print(asdict(points[-1]), flush=True)
    elements = sum(array.size for truth in truths for array in truth.whole.values())
    rows = [asdict(point) for point in points]
    return Row(ready.pipeline.name, given.to, len(layers), len(cases), elements, rows)


def counts(saved: np.ndarray, whole: float) -> list[int]:
    """How many layers are lowered in each file, to be of about the sizes that are tried."""
    sizes = 1.0 - np.concatenate([[0.0], np.cumsum(saved)]) / whole
    found = [int(np.argmax(sizes <= size)) for size in SIZES if (sizes <= size).any()]
    return list(dict.fromkeys([*found, 1, len(saved)])) if len(saved) > 1 else [0, len(saved)]


def seconds_of(path: Path, deployment: Deployment, inputs: Arrays) -> float:
    """Of a run, the fastest of a few."""
    run = FileRun(path, deployment)
    taken = []
    for _ in range(1 + ROUNDS):
        began = time.perf_counter()
        run.run(inputs)
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def table(rows: Sequence[Row]) -> str:
    """Markdown: a table per pipeline."""
    lines: list[str] = []
    for row in rows:
        lines += [
            f"`{row.pipeline}` in {row.to}: {row.layers} layers, {row.cases} cases with"
            f" {row.elements} elements of integer outputs.",
            "",
            "| layers lowered | size | predicted error, the least at this size | error, worst case"
            " | elements that change | times as fast |",
            "|--:|--:|--:|--:|--:|--:|",
        ]
        points = sorted((Point(**point) for point in row.points), key=lambda p: p.lowered)
        for p in points:
            error = "-" if p.error is None else f"{p.error:.2g}"
            # Elements of outputs of another size are counted, too.
            changes = p.flips if p.flips <= row.elements else "other sizes"
            lines.append(
                f"| {p.lowered} | {p.size:.2f} | {p.predicted:.2g} | {error} | {changes} |"
                f" {points[0].seconds / p.seconds:.2f} |"
            )
        lines.append("")
    return "\n".join(lines).rstrip()


def main() -> int:
    """Measure, and show or write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("pipelines", nargs="*", type=Path)
    parser.add_argument("--to", default="int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--directions", type=int, default=16)
    parser.add_argument("--output-dir", type=Path, help="of a finished run of a single pipeline")
    parser.add_argument("--results", type=Path, required=True, help="a line of JSON per pipeline")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/lower.md")
    given = parser.parse_args()
    for path in given.pipelines:
        add_row(given.results, measured(path, given))
    rows = rows_of(given.results, Row)
    print(table(rows))
    if given.write:
        write_between(PAGE, MARK, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
