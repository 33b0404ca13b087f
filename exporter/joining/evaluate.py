"""Every value of a graph in float64, on several sets of inputs at once.

Nodes are run in stretches, each in one session of onnxruntime with float64 for float32. Where that
has no kernel, a stretch is halved until a single node is left, which onnx's own evaluator computes,
or, of operators that only onnxruntime knows, onnxruntime in float32. Stretches end at its operator
from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from exporter.core.errors import ExportVerifyError, first_line
from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_float64 import ONNXRUNTIME, run_double
from exporter.execution.onnx_runs import ModelRun, WindowRun
from exporter.graph.float64_piece import double_model
from exporter.graph.index import GraphIndex
from exporter.graph.subgraph import OWN, WindowGraph, cut_window, standalone

STRETCH = 64
"""Nodes that are tried in one session."""
IN_MEMORY = 1 << 30
"""Bytes of values that are held in memory; what comes on top lies in a folder."""
_LARGE = 1 << 16
_FILES = count()
_EXACT = Deployment(level="disable", threads=1)
_SEQUENCES = frozenset({"SplitToSequence", "SequenceConstruct", "SequenceEmpty"})
_REFUSED: set[tuple[str, str]] = set()
"""Domain and operator that onnxruntime has refused in float64: in no stretch from then on."""


class Values:
    """Values by name, one array per set of inputs; large ones go to ``folder`` past a bound."""

    def __init__(self, folder: Path, *, bound: int = IN_MEMORY):
        self.folder = folder
        self._left = bound
        self._held: dict[str, list[np.ndarray | Path]] = {}
        self.shared: dict[str, str] = {}
        """Of a value that another one holds as well: its name there."""

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def __getitem__(self, name: str) -> list[np.ndarray]:
        # Mapped anew each time: what is mapped counts as memory of this process.
        return [
            np.load(path, mmap_mode="r") if isinstance(path, Path) else path
            for path in self._held[name]
        ]

    def get(self, name: str) -> list[np.ndarray] | None:
        """The arrays of a value; None where it was not computed."""
        return self[name] if name in self._held else None

    def one(self, name: str, at: int = 0) -> np.ndarray | None:
        """The array of a value on one set of inputs; None where it was not computed."""
        array = self.get(name)
        return None if array is None else array[at]

    def names(self) -> Iterable[str]:
        return self._held.keys()

    def put(self, name: str, arrays: Sequence[np.ndarray]) -> None:
        """Hold the arrays of a value, in place of any that were there."""
        self._held[name] = [self._keep(array) for array in arrays]
        self.shared.pop(name, None)

    def share(self, name: str, other: Values, its: str) -> None:
        """Hold what another one holds as ``its``, once for both."""
        self._held[name] = list(other._held[its])
        self.shared[name] = its

    def _keep(self, array: np.ndarray) -> np.ndarray | Path:
        self._left -= array.nbytes
        # What numpy has no name for (bfloat16) it cannot write.
        if self._left > 0 or array.nbytes < _LARGE or array.dtype.kind in "OV":
            return array
        path = self.folder / f"{next(_FILES)}.npy"
        np.save(path, array)
        return path


@dataclass(slots=True)
class Evaluation:
    """What was computed of a graph.

    Attributes:
        values: by name; a forced value is here as the graph itself computes it.
        coarse: names of values that only float32 was to be had of, and of all behind them.
        missing: names that nothing computes -> why.
    """

    values: Values
    coarse: set[str] = field(default_factory=set)
    missing: dict[str, str] = field(default_factory=dict)


def evaluate(
    graph: GraphIndex,
    inputs: Sequence[Arrays],
    values: Values,
    *,
    nodes: Sequence[int] | None = None,
    given: Values | None = None,
    forced: Mapping[str, Sequence[np.ndarray]] | None = None,
) -> Evaluation:
    """Compute a graph in float64.

    Args:
        inputs: the sets of inputs, one array per graph input; float32 ones are widened.
        values: where results go.
        nodes: those to compute, in order; all by default.
        given: values of the nodes that are not computed.
        forced: name -> arrays that every reader of that value is fed instead.
    """
    return _Walk(graph, inputs, values, given, forced or {}).run(
        range(len(graph.nodes)) if nodes is None else nodes
    )


class _Walk:
    def __init__(
        self,
        graph: GraphIndex,
        inputs: Sequence[Arrays],
        values: Values,
        given: Values | None,
        forced: Mapping[str, Sequence[np.ndarray]],
    ):
        self.graph = graph
        self.found = Evaluation(values=values)
        self.inputs = {
            name: [wide(np.asarray(arrays[name])) for arrays in inputs] for name in graph.inputs
        }
        self.given = given
        self.forced = forced
        self.cut = frozenset(forced)
        self.sets = len(inputs)

    def run(self, nodes: Iterable[int]) -> Evaluation:
        order = list(nodes)
        for start in range(0, len(order), STRETCH):
            self._stretch(order[start : start + STRETCH])
        return self.found

    def _stretch(self, nodes: list[int]) -> None:
        able = [node for node in nodes if not self._lacks(node)]
        if not able:
            return
        parts = self._parts(able)
        if len(parts) > 1:
            for part in parts:
                self._stretch(part)
            return
        try:
            self._compute(able)
        except Exception:  # noqa: BLE001 - no kernel, or an operator of its own
            if len(able) > 1:
                half = len(able) // 2
                self._stretch(able[:half])
                self._stretch(able[half:])
            else:
                self._alone(able[0])

    def _parts(self, nodes: list[int]) -> list[list[int]]:
        """The nodes in their order; each that onnxruntime has refused stands by itself."""
        parts: list[list[int]] = [[]]
        for node in nodes:
            if self._kind(node) in _REFUSED:
                parts += [[node], []]
            else:
                parts[-1].append(node)
        return [part for part in parts if part]

    def _kind(self, node: int) -> tuple[str, str]:
        return self.graph.nodes[node].domain, self.graph.nodes[node].op_type

    def _lacks(self, node: int) -> bool:
        """Whether a node reads what nobody computes; notes its outputs as missing then."""
        for name in self.graph.reads[node]:
            if name in self.found.missing and name not in self.forced:
                why = self.found.missing[name]
                outputs = filter(None, self.graph.nodes[node].output)
                self.found.missing.update((out, why) for out in outputs)
                return True
        return False

    def _window(self, nodes: list[int]) -> tuple[WindowGraph, list[str]]:
        graph = self.graph
        # Sequences cannot cross the end of a session: what makes one is repeated.
        whole = set(nodes)
        stack = list(nodes)
        while stack:
            for name in graph.reads[stack.pop()]:
                maker = graph.producer.get(name)
                if maker is None or maker in whole:
                    continue
                if graph.nodes[maker].op_type in _SEQUENCES:
                    whole.add(maker)
                    stack.append(maker)
        order = tuple(sorted(whole))
        made = [name for i in nodes for name in graph.nodes[i].output if name]
        inside = {name for i in order for name in graph.nodes[i].output}
        reads = {name for i in order for name in graph.reads[i]} - graph.initializers.keys()
        outside = {name for name in reads if name in self.cut or name not in inside}
        window = cut_window(
            graph,
            order,
            keep=made,
            pending=(),
            forced=self.cut,
            dtypes={name: narrow(self._read(name, 0)).dtype for name in outside},
            feed_matrices=True,
        )
        return window, made

    def _compute(self, nodes: list[int]) -> None:
        window, made = self._window(nodes)
        session = ModelRun(double_model(standalone(window, self.graph)), _EXACT)
        fed = {name: wide(self.graph.array(name)) for name in window.fed}
        results = [
            session.run({name: wide(self._read(name, at)) for name in window.inputs} | fed)
            for at in range(self.sets)
        ]
        self._put(made, results)
        for node in nodes:
            self._spread(node)

    def _alone(self, node: int) -> None:
        """Compute one node in another way, or note why there is none."""
        try:
            window, made = self._window([node])
        except KeyError as error:
            outputs = filter(None, self.graph.nodes[node].output)
            self.found.missing.update((out, f"{error} is not at hand") for out in outputs)
            return None
        results: list[Mapping[str, np.ndarray]] = []
        for at in range(self.sets):
            feeds = {name: self._read(name, at) for name in window.inputs}
            fed = {name: self.graph.array(name) for name in window.fed}
            run = run_double(standalone(window, self.graph), feeds | fed)
            if run.engine != ONNXRUNTIME:
                _REFUSED.add(self._kind(node))
            if not run.values:
                return self._coarsely(node, window, made)
            results.append(run.values)
        self._put(made, results)
        return self._spread(node)

    def _coarsely(self, node: int, window: WindowGraph, made: list[str]) -> None:
        try:
            session = WindowRun(window, self.graph, _EXACT)
            results = [
                session.run({name: narrow(self._read(name, at)) for name in window.inputs})
                for at in range(self.sets)
            ]
        except (ExportVerifyError, KeyError) as error:
            why = first_line(error)
            self.found.missing.update((name, why) for name in made)
            return
        self._put(made, results)
        self.found.coarse.update(made)

    def _spread(self, node: int) -> None:
        if any(name in self.found.coarse for name in self.graph.reads[node]):
            self.found.coarse.update(name for name in self.graph.nodes[node].output if name)

    def _put(self, made: list[str], results: Sequence[Mapping[str, np.ndarray]]) -> None:
        for name in made:
            key = name + OWN if name in self.cut else name
            if all(key in result for result in results):
                self.found.values.put(name, [wide(np.array(r[key])) for r in results])

    def _read(self, name: str, at: int) -> np.ndarray:
        if name in self.forced:
            return self.forced[name][at]
        if name in self.inputs:
            return self.inputs[name][at]
        array = self.found.values.get(name)
        if array is None and self.given is not None:
            array = self.given.get(name)
        if array is None:
            raise KeyError(name)
        return array[at]


def wide(array: np.ndarray) -> np.ndarray:
    """float32 as float64; other types stay."""
    return array.astype(np.float64) if array.dtype == np.float32 else np.asarray(array, order="C")


def narrow(array: np.ndarray) -> np.ndarray:
    """float64 as float32; other types stay."""
    return array.astype(np.float32) if array.dtype == np.float64 else np.asarray(array, order="C")
