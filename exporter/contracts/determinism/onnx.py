"""Determinism of the ONNX file: runs, sessions, threads, order, and nodes that draw numbers."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

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
from exporter.contracts.result import ONNX, ContractResult, Place, not_run
from exporter.contracts.target import Subject
from exporter.core.errors import OnnxStoppedError
from exporter.execution.onnxruntime import Deployment

NAME = "determinism"
_LEFTOVER = "remove the random node: it is a training leftover"
_RANDOM = frozenset(
    {
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    }
)


def random_nodes(subject: Subject) -> list[Place]:
    """Nodes of the file that draw random numbers (a Dropout only while it trains)."""
    graph = subject.onnx.made.graph
    found = []
    for node in graph.nodes:
        training = node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]
        on = training and (
            node.input[2] not in graph.initializers or bool(graph.array(node.input[2]).any())
        )
        if node.op_type in _RANDOM or on:
            place = subject.onnx.place(node.output[0])
            found.append(dataclasses.replace(place, op=f"{node.op_type} '{node.name}'"))
    return found


def check_onnx(
    subject: Subject,
    bitwise: bool,
    threads: tuple[int, ...],
    inputs: dict[str, np.ndarray],
    noise: Noise,
) -> ContractResult:
    """Run the same tests as on the PyTorch side on the file."""
    if subject.onnx.problem is not None:
        return not_run(NAME, ONNX, f"no ONNX file: {subject.onnx.problem}")
    drawing = random_nodes(subject)
    tests = [TWICE]

    def failed(test: str, bad: Moved, where: Place | None, advice: str) -> ContractResult:
        finding = Finding(test=test, where=where, advice=advice, moved=bad)
        return verdict(ONNX, finding, tests, bitwise)

    try:
        first = subject.onnx.recall(inputs)
        subject.onnx.run(unrelated(subject, inputs))
        after = compare(first, subject.onnx.run(inputs), noise, bitwise=bitwise)
        if after is not None:
            bad = compare(first, subject.onnx.run(inputs), noise, bitwise=bitwise)
            if bad is not None:
                where = drawing[0] if drawing else _first_value(subject, inputs)
                return failed(TWICE, bad, where, _LEFTOVER)
        if drawing:
            # An optimiser may drop what draws; the file is not fixed by that.
            plain = dataclasses.replace(subject.onnx.deployment, level="disable")
            tests.append("two runs without graph optimisation")
            runs = [subject.onnx.run(inputs, plain) for _ in range(2)]
            bad = compare(runs[0], runs[1], noise, bitwise=bitwise)
            if bad is not None:
                return failed(tests[-1], bad, drawing[0], _LEFTOVER)
        tests.append(AFTER_OTHER)
        if after is not None:
            advice = "report it to the execution provider's maintainers"
            return failed(tests[-1], after, None, advice)
        one, *more = _deployments(subject, threads)
        for other in more:
            tests.append(f"{one.threads} and {other.threads or 'default'} threads")
            short = short_probe(subject)
            runs = [subject.onnx.recall(short, deployment) for deployment in (one, other)]
            bad = compare(runs[0], runs[1], noise, bitwise=False)
            if bad is not None:
                return failed(tests[-1], bad, None, "fix the number of threads in deployment")
        if subject.batch is not None:
            tests.append("another order of the batch")
            bad = _order(subject, batch_of(subject, short_probe(subject)), noise)
            if bad is not None:
                return failed(tests[-1], bad, None, "compute nothing over the batch axis")
    except OnnxStoppedError as error:
        return not_run(NAME, ONNX, f"onnxruntime does not run the probe: {error}")
    if drawing:
        tests.append(f"draws random numbers in {drawing[0]}, without effect on the outputs")
    return verdict(ONNX, None, tests, bitwise)


def _deployments(subject: Subject, threads: tuple[int, ...]) -> list[Deployment]:
    """One deployment per number of threads.

    A session of a large model costs several forward passes, so the one that there is stands for
    the last number where onnxruntime chose how many threads it has.
    """
    own = subject.onnx.deployment
    wanted = [dataclasses.replace(own, threads=count) for count in threads]
    if not own.threads and len(threads) > 1 and (os.cpu_count() or 1) > 1:
        wanted[-1] = own
    return wanted


def _order(subject: Subject, batch: dict[str, np.ndarray], noise: Noise) -> Moved | None:
    left, right = subject.onnx.run(batch), subject.onnx.run(turned_batch(subject, batch))
    return compare_turned(subject, left, right, row_count(subject, batch), noise)


def _first_value(subject: Subject, inputs: dict[str, np.ndarray]) -> Place | None:
    for name, (left, right) in subject.onnx.walk((inputs, inputs)):
        if distance(left, right) > 0.0:
            return subject.onnx.place(name)
    return None
