"""Determinism: the same input gives the same output, whatever was run before and around it.

Two runs, with an unrelated input in between; one and several threads; another order of the batch.
Where the two differ a third run, with nothing in between, tells chance from memory. Randomness is
also seen directly: ops that are seeded announce it, and the file is searched for nodes that draw
numbers. PyTorch and the file go through the same tests in the same order.
"""

from __future__ import annotations

from exporter.config.section import Many
from exporter.contracts.compare.agree import Disagreement
from exporter.contracts.compare.noise import Noise, noise_of
from exporter.contracts.determinism.onnx import OnnxRuns
from exporter.contracts.determinism.repeats import (
    batch_of,
    compare,
    compare_turned,
    row_count,
    turned_batch,
    unrelated,
)
from exporter.contracts.determinism.torch import TorchRuns
from exporter.contracts.probes import probe, short_probe
from exporter.contracts.result import Answer, ContractResult, Location
from exporter.contracts.settings import ContractSettings
from exporter.contracts.target import Target, on_file
from exporter.core.tensors import Arrays

NAME = "determinism"
TWICE = "two runs"
AFTER_OTHER = "after an unrelated input"


class Settings(ContractSettings):
    """Options.

    Attributes:
        bitwise: two runs of one input are equal bit by bit; False: within float32 noise.
        threads: counts that must agree within float32 noise; the first is the reference.
        caches: patterns of state that the caller resets between inputs.
    """

    bitwise: bool = True
    threads: Many[int] = (1, 2)
    caches: Many[str] = ()


def check(target: Target, settings: Settings) -> tuple[ContractResult, ...]:
    """Check both sides."""
    inputs = probe(target)
    noise = noise_of(target)
    same = settings.bitwise

    def on_onnx() -> ContractResult:
        return _tested(OnnxRuns(target, settings.threads), target, inputs, noise, same)

    module = TorchRuns(target, settings.threads, settings.caches, noise, bitwise=same)
    return _tested(module, target, inputs, noise, same), on_file(NAME, target, on_onnx)


def _tested(
    side: TorchRuns | OnnxRuns, target: Target, inputs: Arrays, noise: Noise, bitwise: bool
) -> ContractResult:
    """Run the tests in turn; the first that fails ends it."""
    tests = [TWICE]
    limit = "bit by bit" if bitwise else "within float32 noise"
    said = Answer(NAME, side.name, {"tests": tests})

    def failed(disagreement: Disagreement, where: Location | None, advice: str) -> ContractResult:
        test, moved = tests[-1], disagreement.difference
        return said.failed(
            f"'{disagreement.output}' {moved.moves('in one run', 'in the other')}",
            moved.limit_text if moved.limit else limit,
            f"{test} differ" if test == TWICE else f"differs: {test}",
            where=where,
            advice=advice,
        )

    first, other = side.recall(inputs), unrelated(target, inputs)
    after = compare(first, side.after(other, inputs), noise, bitwise=bitwise)
    if after is not None:
        bad = compare(first, side.run(inputs), noise, bitwise=bitwise)
        if bad is not None:
            where = side.drawing[0] if side.drawing else side.first_moved(inputs)
            return failed(bad, where, side.leftover)
    for test, left, right in side.more_runs(inputs):
        tests.append(test)
        bad = compare(left, right, noise, bitwise=bitwise)
        if bad is not None:
            return failed(bad, side.drawing[0], side.leftover)
    tests.append(AFTER_OTHER)
    if after is not None:
        return failed(after, side.first_stale(other, inputs), side.stale)
    for test, left, right in side.threads(short_probe(target)):
        tests.append(test)
        bad = compare(left, right, noise, bitwise=False)
        if bad is not None:
            return failed(bad, None, side.unordered)
    batch = {} if target.batch is None else batch_of(target, short_probe(target))
    rows = row_count(target, batch) if batch else 0
    if rows > 1:
        tests.append("another order of the batch")
        turned = turned_batch(target, batch)
        bad = compare_turned(target, side.run(batch), side.run(turned), rows, noise)
        if bad is not None:
            where = side.first_turned(batch, turned, rows)
            return failed(bad, where, "compute nothing over the batch axis")
    if side.drawing:
        tests.append(f"draws random numbers in {side.drawing[0]}, without effect on the outputs")
    return said.passed("no output moves", limit, "; ".join(tests))
