"""Determinism of the ONNX file: its runs and sessions, and nodes that draw numbers."""

from __future__ import annotations

import dataclasses
import os

from exporter.contracts.compare.noise import distance
from exporter.contracts.determinism.repeats import Pairs
from exporter.contracts.locate.first import first_value
from exporter.contracts.result import ONNX, Location
from exporter.contracts.target import Target
from exporter.core.tensors import Arrays
from exporter.graph.traps import RANDOM


def random_nodes(target: Target) -> list[Location]:
    """Nodes of the file that draw random numbers (a Dropout only while it trains)."""
    graph = target.onnx.file.graph
    nodes = []
    for node in graph.nodes:
        training = node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]
        on = training and (
            node.input[2] not in graph.initializers or bool(graph.array(node.input[2]).any())
        )
        if node.op_type in RANDOM or on:
            place = target.onnx.place(node.output[0])
            nodes.append(dataclasses.replace(place, op=node.op_type, node=node.name))
    return nodes


class OnnxRuns:
    """The runs of the file; attributes as of ``TorchSide``."""

    name = ONNX
    leftover = "remove the random node: it is a training leftover"
    stale = "report it to the execution provider's maintainers"
    unordered = "fix the number of threads in deployment"

    def __init__(self, target: Target, threads: tuple[int, ...]):
        self._target, self._threads = target, threads
        self.run, self.recall = target.onnx.run, target.onnx.recall
        self.drawing = random_nodes(target)

    def after(self, other: Arrays, inputs: Arrays) -> Arrays:
        """What ``inputs`` give behind ``other``."""
        self.run(other)
        return self.run(inputs)

    def more_runs(self, inputs: Arrays) -> Pairs:
        """Of a file that draws, two runs as it is written.

        An optimiser may drop what draws; the file is not fixed by that.
        """
        if self.drawing:
            plain = dataclasses.replace(self._target.onnx.deployment, level="disable")
            runs = [self.run(inputs, plain) for _ in range(2)]
            yield "two runs without graph optimisation", runs[0], runs[1]

    def threads(self, inputs: Arrays) -> Pairs:
        """The first number of threads with each of the others.

        A session of a large model costs several forward passes, so the one that there is stands
        for the last number where onnxruntime chose how many threads it has.
        """
        own = self._target.onnx.deployment
        one, *more = [dataclasses.replace(own, threads=count) for count in self._threads]
        if more and not own.threads and (os.cpu_count() or 1) > 1:
            more[-1] = own
        for other in more:
            runs = [self.recall(inputs, deployment) for deployment in (one, other)]
            yield f"{one.threads} and {other.threads or 'default'} threads", runs[0], runs[1]

    def first_moved(self, inputs: Arrays) -> Location | None:
        """The first value that is another one the second time."""
        return first_value(
            self._target, (inputs, inputs), lambda _name, values: distance(*values) > 0.0
        )

    def first_stale(self, other: Arrays, inputs: Arrays) -> None:
        """Nothing inside the file keeps a state; it is the provider."""

    def first_turned(self, batch: Arrays, turned: Arrays, rows: int) -> None:
        """Not looked for: values inside have their rows in several ways."""
