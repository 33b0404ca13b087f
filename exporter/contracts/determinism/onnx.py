"""Determinism of the ONNX file: runs, sessions, threads, order, and nodes that draw numbers."""

from __future__ import annotations

import dataclasses
import os

from exporter.contracts.compare.noise import Noise, distance
from exporter.contracts.determinism.repeats import (
    AFTER_OTHER,
    TWICE,
    Finding,
    Moved,
    batch_of,
    compare,
    compare_turned,
    row_count,
    turned_batch,
    unrelated,
    verdict,
)
from exporter.contracts.probes import short_probe
from exporter.contracts.result import ONNX, ContractResult, Location, not_run
from exporter.contracts.target import Target
from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.graph.traps import RANDOM

NAME = "determinism"
_LEFTOVER = "remove the random node: it is a training leftover"


def random_nodes(target: Target) -> list[Location]:
    """Nodes of the file that draw random numbers (a Dropout only while it trains)."""
    graph = target.onnx.file.graph
    found = []
    for node in graph.nodes:
        training = node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]
        on = training and (
            node.input[2] not in graph.initializers or bool(graph.array(node.input[2]).any())
        )
        if node.op_type in RANDOM or on:
            place = target.onnx.place(node.output[0])
            found.append(dataclasses.replace(place, op=node.op_type, node=node.name))
    return found


def check_onnx(
    target: Target, bitwise: bool, threads: tuple[int, ...], inputs: Arrays, noise: Noise
) -> ContractResult:
    """Run the same tests as on the PyTorch side on the file."""
    if target.onnx.problem is not None:
        return not_run(NAME, ONNX, f"no ONNX file: {target.onnx.problem}")
    drawing = random_nodes(target)
    tests = [TWICE]

    def failed(test: str, bad: Moved, where: Location | None, advice: str) -> ContractResult:
        finding = Finding(test=test, where=where, advice=advice, moved=bad)
        return verdict(ONNX, finding, tests, bitwise)

    try:
        first = target.onnx.recall(inputs)
        target.onnx.run(unrelated(target, inputs))
        after = compare(first, target.onnx.run(inputs), noise, bitwise=bitwise)
        if after is not None:
            bad = compare(first, target.onnx.run(inputs), noise, bitwise=bitwise)
            if bad is not None:
                where = drawing[0] if drawing else _first_value(target, inputs)
                return failed(TWICE, bad, where, _LEFTOVER)
        if drawing:
            # An optimiser may drop what draws; the file is not fixed by that.
            plain = dataclasses.replace(target.onnx.deployment, level="disable")
            tests.append("two runs without graph optimisation")
            runs = [target.onnx.run(inputs, plain) for _ in range(2)]
            bad = compare(runs[0], runs[1], noise, bitwise=bitwise)
            if bad is not None:
                return failed(tests[-1], bad, drawing[0], _LEFTOVER)
        tests.append(AFTER_OTHER)
        if after is not None:
            advice = "report it to the execution provider's maintainers"
            return failed(tests[-1], after, None, advice)
        one, *more = _deployments(target, threads)
        for other in more:
            tests.append(f"{one.threads} and {other.threads or 'default'} threads")
            short = short_probe(target)
            runs = [target.onnx.recall(short, deployment) for deployment in (one, other)]
            bad = compare(runs[0], runs[1], noise, bitwise=False)
            if bad is not None:
                return failed(tests[-1], bad, None, "fix the number of threads in deployment")
        if target.batch is not None:
            tests.append("another order of the batch")
            bad = _order(target, batch_of(target, short_probe(target)), noise)
            if bad is not None:
                return failed(tests[-1], bad, None, "compute nothing over the batch axis")
    except OnnxStoppedError as error:
        return not_run(NAME, ONNX, f"onnxruntime does not run the probe: {error}")
    if drawing:
        tests.append(f"draws random numbers in {drawing[0]}, without effect on the outputs")
    return verdict(ONNX, None, tests, bitwise)


def _deployments(target: Target, threads: tuple[int, ...]) -> list[Deployment]:
    """One deployment per number of threads.

    A session of a large model costs several forward passes, so the one that there is stands for
    the last number where onnxruntime chose how many threads it has.
    """
    own = target.onnx.deployment
    wanted = [dataclasses.replace(own, threads=count) for count in threads]
    if not own.threads and len(threads) > 1 and (os.cpu_count() or 1) > 1:
        wanted[-1] = own
    return wanted


def _order(target: Target, batch: Arrays, noise: Noise) -> Moved | None:
    left, right = target.onnx.run(batch), target.onnx.run(turned_batch(target, batch))
    return compare_turned(target, left, right, row_count(target, batch), noise)


def _first_value(target: Target, inputs: Arrays) -> Location | None:
    for name, (left, right) in target.onnx.walk((inputs, inputs)):
        if distance(left, right) > 0.0:
            return target.onnx.place(name)
    return None
