"""float16 at one limit: what stays in float32, chosen by ``lower`` and by another tool's search.

    python scripts/mixed_table.py PIPELINE.yaml [...] --results FILE [--limit 600] [--write]

``auto_mixed_precision`` of onnxconverter-common excludes nodes from its conversion and runs the
model, until what is left cannot be converted; ``lower`` predicts, chooses and runs. Both are given
the same case, a window of a recording, and as limit the same share of the error that the file has
with everything in float16 (0.02 at most): rms of the difference at the outputs over their rms, no
other integers.
Counted are the nodes that compute floats in float32 in the file that comes out, and runs of a whole
model. The other search is cut after ``--limit`` seconds; what it had reached by then counts, and
the table says so.
Lines of JSON, one per pipeline, stand in ``--results``, also those of earlier runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch
from onnx import TensorProto

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from exporter.cases.load import load_cases  # noqa: E402
from exporter.config.run_options import RunOptions  # noqa: E402
from exporter.core.tensors import Arrays, Case  # noqa: E402
from exporter.execution.deployment import Deployment  # noqa: E402
from exporter.execution.onnx_runs import FileRun  # noqa: E402
from exporter.execution.quantisers import Order, write_lowered  # noqa: E402
from exporter.flows.prepare import prepare  # noqa: E402
from exporter.graph.onnx_file import open_graph  # noqa: E402
from exporter.graph.value_types import value_types  # noqa: E402
from exporter.graph.wrap import wrap  # noqa: E402
from exporter.judge.reference_run import reference_run  # noqa: E402
from exporter.lowering.rounds import Wanted  # noqa: E402
from exporter.lowering.search import Search  # noqa: E402
from exporter.report.progress import Progress  # noqa: E402
from scripts.marked_page import write_between  # noqa: E402
from scripts.precision_table import RATE, windows_of  # noqa: E402
from scripts.row_lines import add_row, rows_of  # noqa: E402

PAGE = ROOT / "docs" / "lower.md"
MARK = "<!-- mixed -->", "<!-- /mixed -->"
ONE = Deployment(threads=1)
LARGE = 0.02
"""No file with a larger error is one that anybody wants."""
_COUNTED_NOT = {"Cast", "Constant", "Identity"}


@dataclass
class Row:
    """One pipeline; of each way the nodes in float32, the runs, the error and the seconds."""

    pipeline: str
    nodes: int
    limit: float
    ours: dict[str, float]
    theirs: dict[str, float] | str


def apart(
    outputs: Sequence[np.ndarray], plain: Sequence[np.ndarray], *, whole: bool = True
) -> float:
    """Relative rms error at the floating outputs; inf where an integer differs, if that counts."""
    total = 0.0
    for found, meant in zip(outputs, plain, strict=True):
        if meant.dtype.kind != "f":
            if whole and not np.array_equal(found, meant):
                return float("inf")
            continue
        if found.shape != meant.shape or not np.isfinite(found).all():
            return float("inf")
        if meant.size:
            size = float(np.mean(np.square(meant, dtype=np.float64)))
            gap = np.square(found.astype(np.float64) - meant)
            total += float(np.mean(gap)) / max(size, 1e-60)
    return float(np.sqrt(total))


def in_float32(path: Path) -> int:
    """Nodes of a file that compute floats in float32."""
    graph = open_graph(path)
    types = value_types(graph)
    return sum(
        node.op_type not in _COUNTED_NOT
        and any(types.get(name) == TensorProto.FLOAT for name in node.output)
        for node in graph.nodes
    )


def error_of(
    path: Path, inputs: Arrays, plain: Sequence[np.ndarray], *, whole: bool = True
) -> float:
    """The error of a file on one case."""
    return apart(list(FileRun(path, ONE).run(inputs).values()), plain, whole=whole)


def measured(path: Path, given: argparse.Namespace) -> Row:
    """One pipeline, both ways."""
    # One that is not installed is no search that stops.
    from onnxconverter_common import auto_mixed_precision

    ready = prepare(path, RunOptions(trust=True, threads=1, cache=False))
    progress = Progress(quiet=True)
    wrapped = wrap(ready.pipeline)
    torch.set_num_threads(1)
    own = reference_run(ready.pipeline, wrapped, ready.folder, 1, progress)
    cases = load_cases(ready.pipeline, own.inputs, (ready.pipeline.default_case,))
    (case,) = windows_of(cases, 1, round(given.seconds * RATE))
    source = own.shipped
    plain = list(FileRun(source, ONE).run(case.inputs).values())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_lowered(source, folder / "all.onnx", Order(to="float16"))
        everything = error_of(folder / "all.onnx", case.inputs, plain, whole=False)
        # Half of what is broken is no limit.
        limit = min(given.share * everything if np.isfinite(everything) else LARGE, LARGE)
        row = Row(ready.pipeline.name, len(open_graph(source).nodes), limit, {}, "")
        row.ours = ours(own, case, limit, folder, ready.budget, progress)
        row.ours["error"] = error_of(folder / "ours.onnx", case.inputs, plain)
        print(asdict(row), flush=True)
        try:
            row.theirs = theirs(auto_mixed_precision, source, case, limit, folder, given.limit)
            row.theirs["error"] = error_of(folder / "theirs.onnx", case.inputs, plain)
        except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
            row.theirs = f"{type(error).__name__}: {str(error)[:200]}"
    return row


def ours(
    own: Any, case: Case, limit: float, folder: Path, budget: int, progress: Progress
) -> dict[str, float]:
    """What ``lower`` chooses."""
    began = time.perf_counter()
    search = Search(
        source=own.shipped,
        program=own.program,
        cases=[case],
        folder=folder / "tried",
        deployment=ONE,
        budget=budget,
        wanted=Wanted(to="float16", max_error=limit, prefer="size"),
        stages=progress,
    )
    found = search.find(folder / "ours.onnx")
    spent = time.perf_counter() - began
    kept = in_float32(folder / "ours.onnx")
    return {"kept": kept, "runs": found.runs, "seconds": spent, "met": float(found.met)}


class _LateError(Exception):
    """The time of a search is over."""


def theirs(
    tool: Any, source: Path, case: Case, limit: float, folder: Path, seconds: float
) -> dict[str, float]:
    """What the search of the other tool leaves, or has left when its time is over."""
    began, runs = time.perf_counter(), 0
    run, convert = tool.get_tensor_values_using_ort, tool.float16.convert_float_to_float16
    tried: list[str] = []
    good: list[str] | None = None

    def counted(*given: Any, **more: Any) -> Any:
        nonlocal runs
        if time.perf_counter() - began > seconds:
            raise _LateError
        runs += 1
        return run(*given, **more)

    def noted(*given: Any, **more: Any) -> Any:
        tried[:] = more["node_block_list"]
        return convert(*given, **more)

    def close(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> bool:
        nonlocal good
        met = apart(right, left) <= limit
        good = list(tried) if met and left is not right else good
        return met

    with (
        patch.object(tool, "get_tensor_values_using_ort", counted),
        patch.object(tool.float16, "convert_float_to_float16", noted),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        feed = {name: np.asarray(value) for name, value in case.inputs.items()}
        try:
            model = tool.auto_convert_mixed_precision(
                onnx.load(source), feed, validate_fn=close, keep_io_types=True
            )
            cut = 0.0
        except _LateError:
            if good is None:
                raise
            model = convert(onnx.load(source), node_block_list=good, keep_io_types=True)
            cut = 1.0
    onnx.save(model, folder / "theirs.onnx")
    spent = time.perf_counter() - began
    kept = in_float32(folder / "theirs.onnx")
    return {"kept": kept, "runs": runs, "seconds": spent, "cut": cut}


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line per pipeline."""
    lines = [
        "| pipeline | nodes | limit | in float32: `lower` | `auto_mixed_precision` |"
        " runs: `lower` | `auto_mixed_precision` | seconds: `lower` | `auto_mixed_precision` |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        mine = row.ours
        other = row.theirs
        cells = [str(int(mine["kept"])), "-", str(int(mine["runs"])), "-"]
        cells += [f"{mine['seconds']:.0f}", "-"]
        if isinstance(other, dict):
            where = ", cut" if other["cut"] else ""
            cells[1::2] = [
                f"{other['kept']:.0f}{where}",
                f"{other['runs']:.0f}{where}",
                f"{other['seconds']:.0f}{where}",
            ]
        else:
            cells[1] = f"stops: {other.partition(':')[0]}"
        start = [row.pipeline, str(row.nodes), f"{row.limit:.2g}"]
        lines.append("| " + " | ".join([*start, *cells]) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure, and show or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("pipelines", nargs="*", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of float16's own error")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the recording, a window")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of the other search")
    parser.add_argument("--results", type=Path, required=True, help="a line of JSON per pipeline")
    parser.add_argument("--write", action="store_true", help="put the table into docs/lower.md")
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
