"""A system's graphs as callables: float32 PyTorch, float64 PyTorch, and ONNX as deployed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from exporter.core.tensors import Arrays
from exporter.drivers.graph import Graph
from exporter.execution.onnx_runs import FileRun
from exporter.interpret.eager import run_plain
from exporter.interpret.run_program import run_program, run_with_truth
from exporter.systems.opened import OpenedGraph

Call = Callable[[Arrays], Arrays]


def side(graphs: Mapping[str, OpenedGraph], calls: Mapping[str, Call]) -> dict[str, Graph]:
    """Graphs as a driver takes them, each computed by its entry of ``calls``."""
    return {
        name: Graph(
            name=name,
            inputs={spec.name: spec for spec in graph.inputs},
            outputs=tuple(spec.name for spec in graph.outputs),
            states=graph.states,
            call=calls[name],
        )
        for name, graph in graphs.items()
    }


def eager_side(graphs: Mapping[str, OpenedGraph]) -> dict[str, Graph]:
    """The modules themselves, as a user runs them."""

    def of(graph: OpenedGraph) -> Call:
        return lambda arrays: run_plain(
            graph.module, graph.inputs, graph.outputs, as_declared(graph, arrays)
        )

    return side(graphs, {name: of(graph) for name, graph in graphs.items()})


def float32_side(graphs: Mapping[str, OpenedGraph]) -> dict[str, Graph]:
    """The captured programs, in their own precision."""

    def of(graph: OpenedGraph) -> Call:
        return lambda arrays: run_program(graph.program, as_declared(graph, arrays))

    return side(graphs, {name: of(graph) for name, graph in graphs.items()})


def float64_side(graphs: Mapping[str, OpenedGraph]) -> dict[str, Graph]:
    """The captured programs in float64; what one graph hands to another stays float64."""

    def of(graph: OpenedGraph) -> Call:
        def call(arrays: Arrays) -> Arrays:
            wide = {n: a for n, a in arrays.items() if a.dtype == np.float64}
            return run_with_truth(graph.program, as_declared(graph, arrays), wide)[1]

        return call

    return side(graphs, {name: of(graph) for name, graph in graphs.items()})


def onnx_side(
    graphs: Mapping[str, OpenedGraph], sessions: Mapping[str, FileRun]
) -> dict[str, Graph]:
    """The files, as onnxruntime runs them."""
    return side(graphs, {name: sessions[name].run for name in graphs})


def as_declared(graph: OpenedGraph, arrays: Arrays) -> dict[str, np.ndarray]:
    """Float64 inputs in the dtype that the graph declares; all else as it is."""
    dtypes = {spec.name: spec.dtype for spec in graph.inputs}
    return {
        name: array.astype(dtypes[name])
        if array.dtype == np.float64 and dtypes[name] != "float64"
        else array
        for name, array in arrays.items()
    }
