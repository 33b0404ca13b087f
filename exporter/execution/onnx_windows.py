"""Walk an ONNX graph window by window, on its own values or on given ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import WindowRun
from exporter.graph.index import GraphIndex
from exporter.graph.subgraph import OWN, Partition, cut_window

_KEPT_SESSIONS = 512
"""Sessions kept for the next case. Each holds half a megabyte and a thread, and ten minutes of
audio, where a window is a single op, need more than five thousand of them."""


class OnnxWindows:
    """Computes taps of a graph in program order; holds only what later windows still read.

    Args:
        graph: the graph.
        inputs: the case's inputs.
        taps: all values that will be asked for.
        forced: names that come from outside wherever a node reads them ("teacher-forced");
            empty for a free run.
        supply: gives the value of a forced name (float32 PyTorch's).
        sessions: built sessions by their nodes and boundary, reused between cases; not all are
            kept where there are very many.
        weights: weights that sessions share, filled as they are built.
        sparse: not all taps are asked for; nothing is computed in front of forced names but what
            one that is asked for needs.
    """

    def __init__(
        self,
        graph: GraphIndex,
        inputs: Arrays,
        deployment: Deployment,
        *,
        taps: frozenset[str],
        forced: frozenset[str] = frozenset(),
        supply: Callable[[str], np.ndarray] | None = None,
        sessions: dict[tuple, WindowRun] | None = None,
        weights: dict[str, Any] | None = None,
        sparse: bool = False,
    ):
        self._graph = graph
        self._deployment = deployment
        self._forced = forced
        self._supply = supply
        self._sessions = {} if sessions is None else sessions
        self._weights = {} if weights is None else weights
        self._carried: dict[str, np.ndarray] = {
            name: np.asarray(inputs[name], order="C") for name in graph.inputs
        }
        self._partition = Partition(graph, stops=forced if sparse else frozenset())
        self._taps = taps
        # Taps that a window had to compute before they were asked for (the file may order
        # independent nodes differently from the program).
        self._early: dict[str, np.ndarray] = {}
        self._given: set[str] = set()
        self.build_seconds = 0.0
        self.run_seconds = 0.0
        # Why values are missing: onnxruntime's own words, by name; "" for the whole free run.
        self.stopped: dict[str, str] = {}

    def advance(self, names: Iterable[str], *, last: bool) -> dict[str, np.ndarray]:
        """Compute ``names`` (and, in the last window, the graph outputs that are left)."""
        wanted = list(names)
        nodes = self._partition.take(wanted)
        if last:
            nodes = tuple(sorted({*nodes, *self._partition.take(self._graph.outputs)}))
            wanted += [n for n in self._graph.outputs if n not in self._given and n not in wanted]
        if "" in self.stopped:
            return {}
        results = self._run(nodes, wanted)
        outputs: dict[str, np.ndarray] = {}
        for name, value in results.items():
            outputs[name.removesuffix(OWN)] = value
        for name, value in outputs.items():
            if name not in self._forced and self.reads_later(name):
                self._carried[name] = value
        for name in [n for n in self._carried if not self.reads_later(n)]:
            del self._carried[name]
        asked = set(wanted)
        self._given |= asked
        have = outputs.keys() | self._early.keys()
        self._early.update((n, v) for n, v in outputs.items() if n in self._taps and n not in asked)
        return {n: outputs[n] if n in outputs else self._early.pop(n) for n in wanted if n in have}

    def pass_over(self, names: Iterable[str]) -> None:
        """Take the nodes of ``names`` as done without running them."""
        self._partition.take(names)

    def reads_later(self, name: str) -> bool:
        """True while a node that was not handed out yet reads ``name``."""
        return self._partition.is_awaited(name)

    def _run(self, nodes: tuple[int, ...], wanted: list[str]) -> dict[str, np.ndarray]:
        """Run one window; what onnxruntime cannot compute is left out and noted."""
        pending = self._pending(nodes)
        try:
            return self._run_session(nodes, wanted, pending)
        except OnnxStoppedError as error:
            if not self._forced:
                self.stopped[""] = str(error)
                return {}
            said = str(error)
        # Fed from outside, one piece that stops says nothing about the others.
        results: dict[str, np.ndarray] = {}
        for name in dict.fromkeys([*wanted, *pending]):
            if name not in self._graph.producer:
                # An output that is an input or a weight: nothing in the window computes it.
                self.stopped[name] = said
                continue
            piece = self._piece(nodes, name)
            try:
                results |= self._run_session(piece, [name], [])
            except OnnxStoppedError as error:
                self.stopped[name] = str(error)
        return results

    def _piece(self, nodes: tuple[int, ...], name: str) -> tuple[int, ...]:
        """Nodes of a window behind ``name``, back to the values that come from outside."""
        inside, cut_nodes = set(nodes), set()
        stack = [self._graph.producer[name]]
        while stack:
            node = stack.pop()
            if node in cut_nodes or node not in inside:
                continue
            cut_nodes.add(node)
            stack.extend(
                self._graph.producer[source]
                for source in self._graph.reads[node]
                if source not in self._forced and source in self._graph.producer
            )
        return tuple(sorted(cut_nodes))

    def _run_session(
        self, nodes: tuple[int, ...], wanted: list[str], pending: list[str]
    ) -> dict[str, np.ndarray]:
        run = self._session(nodes, wanted, pending)
        feeds = {name: self._value(name) for name in run.inputs}
        started = time.perf_counter()
        results = run.run(feeds)
        self.run_seconds += time.perf_counter() - started
        return results

    def _pending(self, nodes: tuple[int, ...]) -> list[str]:
        produced = (name for i in nodes for name in self._graph.nodes[i].output)
        return [name for name in produced if self.reads_later(name)]

    def _value(self, name: str) -> np.ndarray:
        if name in self._forced and self._supply is not None:
            return self._supply(name)
        return self._carried[name]

    def _session(self, nodes: tuple[int, ...], wanted: list[str], pending: list[str]) -> WindowRun:
        key = (nodes, tuple(wanted), bool(self._forced))
        session = self._sessions.get(key)
        if session is None:
            started = time.perf_counter()
            session = self._build(nodes, wanted, pending)
            if len(self._sessions) < _KEPT_SESSIONS:
                self._sessions[key] = session
            self.build_seconds += time.perf_counter() - started
        return session

    def _build(self, nodes: tuple[int, ...], wanted: list[str], pending: list[str]) -> WindowRun:
        produced = {name for i in nodes for name in self._graph.nodes[i].output}
        read = {name for i in nodes for name in self._graph.reads[i]}
        dtypes = {name: value.dtype for name, value in self._carried.items()}
        for name in read & self._forced:
            if self._supply is not None:
                dtypes[name] = self._supply(name).dtype
        window = cut_window(
            self._graph,
            nodes,
            keep=[*wanted, *(produced & self._taps)],
            pending=pending,
            forced=self._forced,
            dtypes=dtypes,
            # Another device would get them anew in every run.
            feed_matrices=self._deployment.provider == "cpu",
        )
        return WindowRun(window, self._graph, self._deployment, self._weights)
