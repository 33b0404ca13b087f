"""What a driver calls, and what comes of a whole drive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from exporter.core.errors import ExportVerifyError
from exporter.core.tensors import BATCH_NAMES, EMPTY, Arrays, TensorSpec


class DriverStoppedError(ExportVerifyError):
    """A driver cannot go on with what a graph gave it: NaN, a shape that says nothing.

    Args:
        graph: whose output it is.
    """

    def __init__(self, message: str, *, graph: str):
        self.graph = graph
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One graph of a system: named arrays in, named arrays out.

    Attributes:
        name: as the system calls it.
        inputs: specs by name, in order.
        outputs: names.
        states: output -> the input that takes it in the next call.
        call: computes the outputs; every side (float32, float64, ONNX) has one of its own.
    """

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: tuple[str, ...]
    states: Mapping[str, str]
    call: Callable[[Arrays], Arrays]

    def __call__(self, arrays: Arrays) -> Arrays:
        """Outputs by name; of ``arrays`` it takes what it has inputs for."""
        return self.call({name: arrays[name] for name in self.inputs})

    def first_states(self, rows: int = 1) -> Arrays:
        """What its states hold before the first call, for so many rows: nothing, or zeros."""
        return {name: _initial(self.inputs[name], rows) for name in self.states.values()}

    def next_states(self, outputs: Arrays) -> Arrays:
        """States of the next call, from the outputs of this one."""
        return {taken: outputs[given] for given, taken in self.states.items()}

    def chosen_rows(self, states: Arrays, rows: np.ndarray) -> Arrays:
        """The states of some rows of a batch, in that order.

        Raises:
            DriverStoppedError: a state has no axis that is the batch.
        """
        return {
            name: np.take(value, rows, axis=self._batch_axis(name))
            for name, value in states.items()
        }

    def _batch_axis(self, name: str) -> int:
        for axis, size in enumerate(self.inputs[name].shape):
            if size in BATCH_NAMES:
                return axis
        raise DriverStoppedError(
            f"the state '{name}' has no axis that is called 'batch', which several beams need",
            graph=self.name,
        )


def _initial(spec: TensorSpec, rows: int) -> np.ndarray:
    known = {axis.name: axis.minimum for axis in spec.axes}
    shape = tuple(
        rows if size in BATCH_NAMES else known.get(size, 0) if isinstance(size, str) else size
        for size in spec.shape
    )
    return np.full(shape, spec.initial or 0.0, dtype=spec.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a driver made of one case.

    Attributes:
        tokens: token ids of the hypothesis, in order; None for a system that gives none.
        score: of the hypothesis, in the driver's own float64 arithmetic; None where it has none.
        arrays: what else comes out, by ``graph.output``.
    """

    tokens: tuple[int, ...] | None = None
    score: float | None = None
    arrays: Arrays = field(default_factory=dict)


class Pool:
    """Values that later graphs may take: what the case gives, and what earlier graphs gave.

    Args:
        case: arrays by the name of an input.
        feed: ``graph.input`` -> ``graph.output``, as the YAML says.
    """

    def __init__(self, case: Arrays, feed: Mapping[str, str]):
        self._case = case
        self._feed = feed
        self._given: dict[str, np.ndarray] = {}
        self._latest: dict[str, np.ndarray] = {}

    def call(self, graph: Graph, **own: np.ndarray) -> Arrays:
        """Call a graph with what the driver gives itself (``own``), and take up its outputs."""
        outputs = graph({**self.inputs_of(graph, own), **own})
        self.take(graph, outputs)
        return outputs

    def take(self, graph: Graph, outputs: Arrays) -> None:
        """Let later graphs have outputs."""
        for name, value in outputs.items():
            self._given[f"{graph.name}.{name}"] = value
            self._latest[name] = value

    def inputs_of(self, graph: Graph, own: Mapping[str, object] = EMPTY) -> dict[str, np.ndarray]:
        """What goes into the inputs of a graph that the driver does not give itself."""
        arrays: dict[str, np.ndarray] = {}
        for name in graph.inputs:
            fed = self._feed.get(f"{graph.name}.{name}")
            if name in own:
                continue
            if fed is not None:
                arrays[name] = self._given[fed]
            elif name in self._latest:
                arrays[name] = self._latest[name]
            elif name in self._case:
                arrays[name] = self._case[name]
        return arrays
