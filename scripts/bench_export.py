"""Time a whole export against plain ``torch.onnx.export(dynamo=True)`` and onnxsim.

    python scripts/bench_export.py [--full | --blocks N] [--repeats N] [--threads N] [--json FILE]

The tiny pipeline by default. Both sides get the same wrapped module, weights and example:

    ours     what a run does behind wrap: capture, export, simplify, ship; it also writes
             exported.onnx, taps.json and program/, which plain has no counterpart of
    plain    torch.onnx.export(module, example, dynamo=True, dynamic_shapes=...) as it is by
             default, onnxsim.simplify, onnx.save; it is lent our way with recurrent ops, without
             which it does not export this module at all (--bare shows that)

Each side runs in a process of its own, one after the other, in turns and in turned order, so that
no memory, import or cache of one helps the other. Importing and wrapping are not counted. Then
both files run at several lengths and are compared.

Exits 1 when ours takes more than half of plain's time, does not end, or when the files do not
give the same at a length at which both run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from interleaved import machine, median  # noqa: E402

from exporter.config import load_pipeline  # noqa: E402
from exporter.config.pipeline import Pipeline  # noqa: E402

SIDES = ("ours", "plain")
LIMIT = 0.5
LENGTHS = (400, 16000, 31999, 80000, 160000)
"""Samples at 16 kHz; the example that is traced has 49,600."""
TOLERANCE = 1e-3
"""Of floats: two float32 graphs of a deep net; a wrong one is off by more."""
_SMALLEST_GAIN = 1e-12


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the published size")
    parser.add_argument("--tiny", action="store_true", help="the tiny pipeline, the default")
    parser.add_argument("--blocks", type=int, help="encoder blocks, between tiny and full")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bare", action="store_true", help="plain gets no help of ours")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--keep", type=Path, help="folder for the files of both sides")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.side:
        print(json.dumps(measure_side(options.side, options)))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-export-") as scratch:
        folder = options.keep or Path(scratch)
        rounds = [one_round(number, folder) for number in range(options.repeats)]
        pairs = compare(folder, options)
    record = summary(rounds, pairs, options)
    print(table(record))
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0 if record["held"] else 1


def pipeline_of(options: argparse.Namespace) -> Pipeline:
    """The pipeline of the size that was asked for."""
    name = "sensevoice" if options.full else "sensevoice_tiny"
    pipeline = load_pipeline(ROOT / "pipelines" / f"{name}.yaml")
    if options.blocks is None:
        return pipeline
    settings = {**pipeline.model.settings, "num_blocks": options.blocks}
    model = pipeline.model.model_copy(update={"settings": settings})
    return pipeline.model_copy(update={"model": model})


def one_round(number: int, folder: Path) -> dict[str, Any]:
    """Both sides once, each in its own process; who begins changes from round to round."""
    found = {}
    for side in SIDES if number % 2 == 0 else SIDES[::-1]:
        target = folder / side
        target.mkdir(parents=True, exist_ok=True)
        own = ["--side", side, "--keep", str(target)]
        command = [sys.executable, __file__, *sys.argv[1:], *own]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        lines = done.stdout.decode().splitlines()
        failed = {"stages": {}, "error": f"the process ended with {done.returncode}"}
        found[side] = failed if done.returncode or not lines else json.loads(lines[-1])
    return found


def measure_side(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """Wrap, then time one side; seconds and CPU seconds by stage, and the peak of memory."""
    import resource

    import torch

    from exporter.graph.wrap import wrap

    pipeline = pipeline_of(options)
    wrapped = wrap(pipeline)
    torch.set_num_threads(options.threads)
    clock = Clock()
    try:
        if side == "ours":
            ours(pipeline, wrapped, options.keep, clock)
        else:
            plain(pipeline, wrapped, options, clock)
        error = ""
    except Exception as problem:  # noqa: BLE001 - what stops an exporter is a result
        error = reason(problem)
    return {
        "stages": clock.seconds,
        "cpu": clock.cpu,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "error": error,
    }


def reason(problem: BaseException) -> str:
    """The first cause of an error, in one line; exporters wrap it several times."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return f"{type(problem).__name__}: {(str(problem).strip().splitlines() or [''])[0][:300]}"


class Clock:
    """Seconds and CPU seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def stage(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a piece of work and keep how long it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.seconds[name] = time.perf_counter() - wall
        self.cpu[name] = time.process_time() - cpu
        return result


def ours(pipeline: Pipeline, wrapped: Any, folder: Path, clock: Clock) -> None:
    """The making half of a run."""
    from exporter.build.build import make
    from exporter.build.metadata import metadata_of
    from exporter.report.progress import Progress

    stages = Progress(quiet=True)
    base = metadata_of(pipeline, wrapped)
    clock.stage("all", lambda: make(pipeline, wrapped, folder, stages, base))
    clock.seconds = {**stages.timings, "all": clock.seconds["all"]}


def plain(pipeline: Pipeline, wrapped: Any, options: argparse.Namespace, clock: Clock) -> None:
    """What one would write by hand."""
    import onnx
    import onnxsim
    import torch

    from exporter.graph.capture import keep_recurrent_ops
    from exporter.graph.recurrent import TRANSLATIONS

    def translated() -> Any:
        given: dict[str, Any] = {
            "dynamo": True,
            "dynamic_shapes": dict(wrapped.dynamic_shapes),
            "opset_version": pipeline.export.opset,
            "input_names": [spec.name for spec in wrapped.inputs],
            "output_names": [spec.name for spec in wrapped.outputs],
        }
        example = tuple(wrapped.example.values())
        if options.bare:
            return torch.onnx.export(wrapped.module, example, **given)
        with keep_recurrent_ops():
            given["custom_translation_table"] = TRANSLATIONS
            return torch.onnx.export(wrapped.module, example, **given)

    def everything() -> None:
        program = clock.stage("torch.onnx.export", translated)
        model, _ = clock.stage("onnxsim", lambda: onnxsim.simplify(program.model_proto))
        clock.stage("save", lambda: onnx.save(model, str(options.keep / "model.onnx")))

    clock.stage("all", everything)


def compare(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Both files at several lengths: equal integers, largest difference of floats."""
    from exporter.cases.at_lengths import with_size
    from exporter.cases.load import load_cases
    from exporter.core.errors import ExportVerifyError
    from exporter.execution.deployment import Deployment
    from exporter.execution.onnx_runs import FileRun
    from exporter.graph.wrap import wrap

    pipeline = pipeline_of(options)
    inputs = wrap(pipeline).inputs
    (case,) = load_cases(pipeline, inputs, (pipeline.default_case,))
    runs: dict[str, Any] = {}
    for side in SIDES:
        path = folder / side / "model.onnx"
        try:
            runs[side] = FileRun(path, Deployment(threads=options.threads))
        except ExportVerifyError as error:
            runs[side] = error
    rows = []
    for size in LENGTHS:
        waveform = inputs[0]
        specs = {spec.name: spec for spec in inputs}
        axis = waveform.axes[-1].name
        given = with_size(case, specs, waveform.name, axis, size).inputs
        row: dict[str, Any] = {"samples": size}
        found = {}
        for side, run in runs.items():
            try:
                if isinstance(run, ExportVerifyError):
                    raise run
                found[side] = run.run(given)
            except ExportVerifyError as error:
                row[f"{side} stops"] = str(error).splitlines()[0][:200]
        if len(found) == len(SIDES):
            row |= _difference(found["ours"], found["plain"])
        rows.append(row)
    return rows


def _difference(left: Any, right: Any) -> dict[str, Any]:
    import numpy as np

    integers, floats = True, 0.0
    for name, value in left.items():
        other = right[name]
        if value.shape != other.shape:
            return {"integers equal": False, "largest difference": float("inf")}
        if value.dtype.kind == "f":
            floats = max(floats, float(np.abs(value - other).max(initial=0.0)))
        else:
            integers = integers and bool(np.array_equal(value, other))
    return {"integers equal": integers, "largest difference": floats}


def summary(
    rounds: list[dict[str, Any]], pairs: list[dict[str, Any]], options: argparse.Namespace
) -> dict[str, Any]:
    """Medians, the ratio, and whether the goal is held."""
    errors = {s: r[s]["error"] for r in rounds for s in SIDES if r[s]["error"]}
    ended = {side: [r[side] for r in rounds if not r[side]["error"]] for side in SIDES}
    seconds = {s: median([r["stages"]["all"] for r in rs]) for s, rs in ended.items() if rs}
    cpu = {s: median([r["cpu"]["all"] for r in rs]) for s, rs in ended.items() if rs}
    ratio = cpu_ratio = None
    if len(seconds) == len(SIDES):
        ratio = seconds["ours"] / max(seconds["plain"], _SMALLEST_GAIN)
        cpu_ratio = cpu["ours"] / max(cpu["plain"], _SMALLEST_GAIN)
    both = [row for row in pairs if "integers equal" in row]
    equal = all(r["integers equal"] and r["largest difference"] <= TOLERANCE for r in both)
    works = "ours" not in errors and not any("ours stops" in row for row in pairs)
    return {
        "machine": machine(options.threads),
        "size": "full" if options.full else "tiny",
        "blocks": options.blocks,
        "rounds": rounds,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "ratio": ratio,
        "cpu_ratio": cpu_ratio,
        "errors": errors,
        "lengths": pairs,
        "compared": len(both),
        "held": works and bool(both) and equal and ratio is not None and ratio <= LIMIT,
    }


def table(record: dict[str, Any]) -> str:
    """What a person reads."""
    lines = []
    for side in SIDES:
        if side not in record["seconds"]:
            lines.append(f"{side:<7} {record['errors'].get(side, 'not run')}")
            continue
        last = [held[side] for held in record["rounds"] if not held[side]["error"]][-1]
        parts = ", ".join(f"{k} {v:.1f}" for k, v in last["stages"].items() if k != "all")
        lines.append(
            f"{side:<7} {record['seconds'][side]:8.1f} s  {record['cpu_seconds'][side]:8.1f} s CPU"
            f"  {last['peak_gb']:.1f} GB  ({parts})"
        )
    if record["ratio"] is not None:
        lines.append(
            f"ours / plain: {record['ratio']:.2f}, of CPU {record['cpu_ratio']:.2f}; limit {LIMIT}"
        )
    for row in record["lengths"]:
        said = "; ".join(f"{key} {value}" for key, value in row.items() if key != "samples")
        lines.append(f"{row['samples']:>8} samples: {said}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
