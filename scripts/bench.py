"""Guard what costs time by ratios, which mean the same on a slow and on a busy machine.

    python scripts/bench.py --quick [--output bench.json]

Runs the tiny pipeline twice with a cache of its own, then times on what it left:

    warm over cold      the second run over the first, all stages
    layers              comparing every layer, in units of one torch and one onnxruntime forward
    contracts           all declared contracts, in forward passes of PyTorch

Prints JSON: machine, ratios, limits. Limits are generous: they are there for what becomes several
times slower. Exits 1 when a ratio is above its limit or could not be measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from exporter.core.threads import let_waiting_threads_sleep  # noqa: E402

let_waiting_threads_sleep()

import torch  # noqa: E402
from bench_verify import Finished  # noqa: E402
from interleaved import interleaved, machine, median  # noqa: E402

from exporter.cache.place import FOLDER_VARIABLE  # noqa: E402
from exporter.cases.load import load_cases  # noqa: E402
from exporter.config import load_pipeline  # noqa: E402
from exporter.contracts import run_contracts  # noqa: E402
from exporter.execution.deployment import Deployment  # noqa: E402
from exporter.execution.onnx_runs import FileRun  # noqa: E402
from exporter.flows.contracts_of_run import contract_target, finished_run  # noqa: E402
from exporter.flows.run import run  # noqa: E402
from exporter.graph.wrap import wrap  # noqa: E402
from exporter.interpret.run_program import run_program  # noqa: E402
from exporter.report.progress import Progress  # noqa: E402

TINY = ROOT / "pipelines" / "sensevoice_tiny.yaml"
SECONDS = 5
SAMPLE_RATE_HZ = 16000
BUDGET = 256 << 20
REPEATS = 3
LIMITS = {"warm over cold": 0.8, "layers": 40.0, "contracts": 80.0}
"""At the tiny size a forward pass is short and what every op costs anyway weighs most."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the only size there is; for CI")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="file for the JSON; standard output otherwise")
    options = parser.parse_args()
    if not options.quick:
        parser.error("give --quick; bench_verify, bench_contracts and bench_e2e take full sizes")
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        ratios = measure(Path(name), options.threads)
    result = judged(ratios, LIMITS)
    text = json.dumps({"machine": machine(options.threads), **result}, indent=1)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    for held in result["ratios"]:
        print(
            f"{held['name']:<16} {held['ratio']} (limit {held['limit']}): {held['verdict']}",
            file=sys.stderr,
        )
    return 0 if result["verdict"] == "pass" else 1


def judged(ratios: Mapping[str, float | None], limits: Mapping[str, float]) -> dict[str, Any]:
    """Every limit with its ratio; one that is above it, no number or missing fails the whole."""
    rows = []
    for name, limit in limits.items():
        ratio = ratios.get(name)
        known = ratio is not None and math.isfinite(ratio)
        verdict = "not run" if not known else "pass" if ratio <= limit else "fail"
        rows.append(
            {
                "name": name,
                "ratio": round(ratio, 3) if known else None,
                "limit": limit,
                "verdict": verdict,
            }
        )
    good = bool(rows) and all(row["verdict"] == "pass" for row in rows)
    return {"verdict": "pass" if good else "fail", "ratios": rows}


def measure(folder: Path, threads: int) -> dict[str, float | None]:
    """All ratios; ``folder`` is used up."""
    return {
        "warm over cold": warm_over_cold(folder, threads),
        "layers": layers(folder / "out", threads),
        "contracts": contracts(folder / "out", threads),
    }


def warm_over_cold(folder: Path, threads: int) -> float | None:
    """Seconds of a run that finds everything in the cache over those of the one that filled it.

    Packages are imported before: both runs then do the same but for what the cache spares.
    """
    before = os.environ.get(FOLDER_VARIABLE)
    pipeline = load_pipeline(TINY)
    wrap(pipeline)
    os.environ[FOLDER_VARIABLE] = str(folder / "cache")
    try:
        seconds, states = [], []
        for _ in range(2):
            started = time.perf_counter()
            report = run(
                pipeline,
                output_dir=folder / "out",
                progress=Progress(quiet=True),
                threads=threads,
                provider="cpu",
            )
            seconds.append(time.perf_counter() - started)
            states.append(report.cache.state if report.cache else "off")
            if report.exit_code != 0:
                sys.exit(f"the run did not pass: {report.headline}")
    finally:
        os.environ.pop(FOLDER_VARIABLE)
        if before is not None:
            os.environ[FOLDER_VARIABLE] = before
    # A second run that exported again measures nothing.
    return seconds[1] / seconds[0] if states == ["stored", "taken"] else None


def layers(out: Path, threads: int) -> float:
    """All runs and metrics of the layer walk in units of one forward pass on both sides."""
    finished = Finished(out, threads)
    case = finished.case(SECONDS * SAMPLE_RATE_HZ)
    session = FileRun(finished.path, finished.deployment)
    links = []
    times = interleaved(
        {
            "torch": lambda: run_program(finished.program, case.inputs),
            "onnxruntime": lambda: session.run(case.inputs),
            "walk": lambda: links.append(finished.judge([case], BUDGET)),
        },
        REPEATS,
    )
    building = median([link.clock.seconds["session building"] for link in links[1:]])
    unit = median(times["torch"]) + median(times["onnxruntime"])
    return (median(times["walk"]) - building) / unit


def contracts(out: Path, threads: int) -> float:
    """All declared contracts in forward passes of PyTorch; the file is loaded before."""
    pipeline = load_pipeline(TINY)
    wrapped = wrap(pipeline)
    cases = load_cases(pipeline, wrapped.inputs, (pipeline.default_case,))
    subject = contract_target(
        pipeline,
        wrapped,
        cases,
        finished_run(pipeline, wrapped, out),
        deployment=Deployment(threads=threads),
    )
    if subject.onnx.problem is not None:
        sys.exit(subject.onnx.problem)
    finished = Finished(out, threads)
    inputs = finished.case(SECONDS * SAMPLE_RATE_HZ).inputs
    unit = median(interleaved({"torch": lambda: subject.torch(inputs)}, REPEATS)["torch"])
    started = time.perf_counter()
    run_contracts(subject, pipeline.contracts, pipeline=pipeline)
    return (time.perf_counter() - started) / unit


if __name__ == "__main__":
    sys.exit(main())
