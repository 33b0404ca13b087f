"""What the declared contracts of a pipeline cost, in forward passes of PyTorch on 5 s of audio.

Usage: python scripts/bench_contracts.py [--full | --blocks N] [--batch] [--threads N]

The tiny pipeline by default. What a run has done before is not counted: wrapping, exporting,
simplifying, and loading the file that it ships. Prints one line per contract and exits 1 when all
together cost more than 25 forward passes. Times are CPU seconds of this process, so that other
work on the machine does not count for much, and forward passes are made between the contracts, so
that what is left of it counts on both sides.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from exporter.core.threads import let_waiting_threads_sleep  # noqa: E402

let_waiting_threads_sleep()

import torch  # noqa: E402

from exporter.cases.load import load_cases  # noqa: E402
from exporter.config import load_pipeline  # noqa: E402
from exporter.contracts import run_contracts  # noqa: E402
from exporter.contracts.onnx_side import OnnxSide, opened  # noqa: E402
from exporter.contracts.probes import resize  # noqa: E402
from exporter.execution.deployment import Deployment  # noqa: E402
from exporter.flows.contracts_of_run import contract_target, finished_run  # noqa: E402
from exporter.graph.onnx_file import read_in_place  # noqa: E402
from exporter.graph.onnx_file_writer import store_shipped  # noqa: E402
from exporter.graph.weights_on_disk import simplify_stored  # noqa: E402
from exporter.graph.wrap import wrap  # noqa: E402

LIMIT = 25.0
SECONDS = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the published size")
    parser.add_argument("--batch", action="store_true", help="the pipeline without VAD")
    parser.add_argument("--blocks", type=int, help="encoder blocks, between tiny and full")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run", type=Path, help="output folder of a finished run")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    name = "sensevoice" + ("_batch" if options.batch else "") + ("" if options.full else "_tiny")
    pipeline = load_pipeline(ROOT / "pipelines" / f"{name}.yaml")
    if options.blocks is not None:
        settings = {**pipeline.model.settings, "num_blocks": options.blocks}
        model = pipeline.model.model_copy(update={"settings": settings})
        pipeline = pipeline.model_copy(update={"model": model})
    wrapped = wrap(pipeline)
    torch.set_num_threads(options.threads)
    cases = load_cases(pipeline, wrapped.inputs, (pipeline.default_case,))
    subject = contract_target(
        pipeline,
        wrapped,
        cases,
        finished_run(pipeline, wrapped, options.run) if options.run else None,
        deployment=Deployment(threads=options.threads),
    )
    problem = subject.onnx.problem
    if problem is not None:
        print(problem)
        return 1
    shipped = tempfile.TemporaryDirectory(prefix="bench-")
    if subject.onnx.file.captured is not None and pipeline.export.simplify:
        subject.onnx = simplified_side(subject.onnx, Path(shipped.name) / "model.onnx")
        assert subject.onnx.problem is None, subject.onnx.problem
    axis = subject.time_axis()
    assert axis is not None
    inputs = resize(subject, cases[0].inputs, axis, SECONDS * pipeline.sample_rate_hz)
    subject.torch(inputs)
    subject.onnx.run(inputs)
    onnx_unit = timed(lambda: subject.onnx.run(inputs), 3)
    watch = Watch(lambda: subject.torch(inputs))
    results = run_contracts(subject, pipeline.contracts, progress=watch.turn, pipeline=pipeline)
    watch.turn("")
    unit, total = watch.unit, sum(watch.seconds.values())
    print(
        f"{pipeline.name}: one forward pass on {SECONDS} s: PyTorch {unit:.3f} s, "
        f"ONNX {onnx_unit:.3f} s, {options.threads} thread(s)"
    )
    for contract, spent in watch.seconds.items():
        verdicts = ", ".join(f"{r.side} {r.status}" for r in results if r.contract == contract)
        print(f"{contract:<14}{spent:8.2f} s {spent / unit:7.1f} forward passes   {verdicts}")
    print(f"{'all':<14}{total:8.2f} s {total / unit:7.1f} forward passes   limit {LIMIT:g}")
    return 0 if total / unit <= LIMIT else 1


class Watch:
    """CPU seconds of every contract, and of forward passes in between, which count for none.

    What is done behind the last contract counts for it.

    Args:
        forward: one forward pass.
    """

    def __init__(self, forward: Callable[[], object]):
        self.seconds: dict[str, float] = {}
        self._forward, self._passes = forward, [timed(forward, 3)]
        self._name, self._since = "", 0.0

    @property
    def unit(self) -> float:
        """Median of the forward passes."""
        return statistics.median(self._passes)

    def turn(self, name: str) -> None:
        """A contract begins; the one before it, if there was one, has ended."""
        if self._name:
            self.seconds[self._name] = time.process_time() - self._since
        self._passes.append(timed(self._forward, 1))
        self._name, self._since = name, time.process_time()


def simplified_side(exported: OnnxSide, path: Path) -> OnnxSide:
    """What a run ships of an export."""
    made = exported.file
    found, weights = simplify_stored(read_in_place(made.path), made.path.parent)
    store_shipped(found.model, weights, path, {}, outside=False)
    return opened(path, taps=made.taps, program=made.program, deployment=exported.deployment)


def timed(call, repeats: int) -> float:
    """Median seconds of a call."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return sorted(seconds)[repeats // 2]


if __name__ == "__main__":
    sys.exit(main())
