"""Pieces of a file that are evaluated in float64, and what has to be held for them until then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from exporter.core.errors import ExportVerifyError
from exporter.core.tensors import Arrays, PlannedTap
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_float64 import DoubleRun, run_double
from exporter.execution.onnx_runs import WindowRun
from exporter.graph.index import GraphIndex
from exporter.graph.program import Op
from exporter.graph.subgraph import cut_window, piece_of, standalone
from exporter.interpret.evaluate import to_array
from exporter.interpret.float32_cost import cost_of
from exporter.parity.measurement import Distance


class Pieces:
    """The pieces behind some taps, each between the tap and the cuts in front of it.

    Args:
        graph: the file under test. cut: ONNX names of the taps at which it is cut.
        planned: every tap by its name in the program. inputs: of the case.
        wanted: names of the taps in question.
    """

    def __init__(
        self,
        graph: GraphIndex,
        cut: frozenset[str],
        planned: Mapping[str, PlannedTap],
        inputs: Arrays,
        wanted: frozenset[str],
    ):
        self.wanted = wanted
        self._graph, self._cut, self._inputs = graph, cut, inputs
        self._names = {name: planned[name].onnx_name for name in wanted}
        self._nodes = {n: piece_of(graph, names, cut) for n, names in self._names.items()}
        tap_of = {tap.onnx_name: name for name, tap in planned.items()}
        self._reads = {
            name: frozenset(tap_of[read] for i in nodes for read in graph.reads[i] if read in cut)
            for name, nodes in self._nodes.items()
        }
        self._waiting = Counter(read for reads in self._reads.values() for read in reads)

    def reads(self, name: str) -> bool:
        """True while a piece that was not evaluated yet reads the tap ``name``."""
        return self._waiting[name] > 0

    def done(self, name: str) -> None:
        """The piece of ``name`` needs nothing more."""
        self._waiting.subtract(self._reads.get(name, ()))

    def evaluation(
        self, name: str, supply: Callable[[str], np.ndarray]
    ) -> Callable[[], DoubleRun] | None:
        """A function that evaluates the piece of ``name`` in float64; None if nobody asked.

        Args:
            supply: float32 PyTorch's value of a tap, by its ONNX name.
        """
        if name not in self.wanted:
            return None
        return lambda: self._evaluate(self._names[name], self._nodes[name], supply)

    def cost(
        self, op: Op, reference: Callable[[str], Any], truth: Any
    ) -> Callable[[], Distance] | None:
        """A function that finds what an op costs in float32 in other orders of summation.

        Args:
            reference: float32 values by name. truth: float64 on the values that the op reads.
        """
        if op.name not in self.wanted or not isinstance(truth, torch.Tensor):
            return None
        return lambda: cost_of(op, reference, to_array(truth))

    def losing(
        self, name: str, supply: Callable[[str], np.ndarray], deployment: Deployment
    ) -> Callable[[], tuple[str, ...]] | None:
        """A function that names the operators of a piece whose kernels lose digits.

        Each node alone, on the same float32 values, in float32 and in float64; those that are
        within a tenth of the worst are named. () where that cannot be found out.
        """
        if name not in self.wanted:
            return None
        return lambda: self._losing(self._nodes[name], supply, deployment)

    def _losing(
        self,
        nodes: tuple[int, ...],
        supply: Callable[[str], np.ndarray],
        deployment: Deployment,
    ) -> tuple[str, ...]:
        graph = self._graph
        if len(nodes) == 1:
            return (graph.nodes[nodes[0]].op_type,)
        supply_values: dict[str, np.ndarray] = {}
        losses: dict[str, float] = {}
        for index in nodes:
            node = graph.nodes[index]
            try:
                values, loss = self._loss(index, supply_values, supply, deployment)
            except (ExportVerifyError, KeyError):
                return ()
            supply_values |= values
            losses[node.op_type] = max(loss, losses.get(node.op_type, 0.0))
        worst = max(losses.values(), default=0.0)
        return tuple(op for op, loss in losses.items() if loss > 0.1 * worst)

    def _loss(
        self,
        index: int,
        values: dict[str, np.ndarray],
        supply: Callable[[str], np.ndarray],
        deployment: Deployment,
    ) -> tuple[dict[str, np.ndarray], float]:
        """What one node gives, in float32, and how far that is from float64, by its scale."""
        graph = self._graph
        feeds = {}
        for read in graph.reads[index]:
            if read in values:
                feeds[read] = values[read]
            elif read in self._cut:
                feeds[read] = supply(read)
            elif read not in graph.initializers:
                feeds[read] = np.asarray(self._inputs[read])
        made = [value for value in graph.nodes[index].output if value]
        dtypes = {read: value.dtype for read, value in feeds.items()}
        window = cut_window(graph, (index,), keep=made, dtypes=dtypes)
        feeds = {read: feeds[read] for read in window.inputs}
        exact = run_double(standalone(window, graph), feeds).values
        outputs = WindowRun(window, graph, deployment).run(feeds)
        worst = 0.0
        for value, wide in exact.items():
            if wide.dtype.kind == "f" and wide.size and value in outputs:
                scale = max(float(np.abs(wide).max()), 2.0**-126)
                worst = max(worst, float(np.abs(outputs[value] - wide).max()) / scale)
        return outputs, worst

    def _evaluate(
        self, onnx_name: str, nodes: tuple[int, ...], supply: Callable[[str], np.ndarray]
    ) -> DoubleRun:
        graph = self._graph
        if not nodes:
            if onnx_name not in graph.initializers:
                return DoubleRun(values={}, why="the file does not compute this value")
            array = graph.array(onnx_name)
            return DoubleRun(values={onnx_name: array}, engine="the file's own constant")
        reads = {read for i in nodes for read in graph.reads[i]} - graph.initializers.keys()
        made = {value for i in nodes for value in graph.nodes[i].output}
        try:
            feeds = {
                read: supply(read) if read in self._cut else np.asarray(self._inputs[read])
                for read in reads
                if read in self._cut or read not in made
            }
        except KeyError as error:
            return DoubleRun(values={}, why=f"the value of {error} is not at hand")
        dtypes = {read: value.dtype for read, value in feeds.items()}
        window = cut_window(graph, nodes, keep=[onnx_name], forced=self._cut, dtypes=dtypes)
        feeds = {read: feeds[read] for read in window.inputs}
        double = run_double(standalone(window, graph), feeds)
        value = next(iter(double.values.values()), None)
        return DoubleRun(
            values={} if value is None else {onnx_name: value}, engine=double.engine, why=double.why
        )
