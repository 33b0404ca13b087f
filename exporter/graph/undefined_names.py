"""Names that a graph reads or gives, and that nothing in it makes: a file that no one can run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

import onnx


def unmade(model: onnx.ModelProto) -> Iterator[str]:
    """Says of every such name who reads it."""
    yield from _graph(model.graph, frozenset())
    for function in model.functions:
        known = set(function.input)
        yield from _nodes(function.node, known)
        yield from (f"'{name}' is given" for name in function.output if name not in known)


def _graph(graph: onnx.GraphProto, outer: Set[str]) -> Iterator[str]:
    known = {*outer, *(value.name for value in graph.input)}
    known |= {tensor.name for tensor in graph.initializer}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    yield from _nodes(graph.node, known)
    for value in graph.output:
        if value.name not in known:
            yield f"the output '{value.name}' is given"


def _nodes(nodes: Iterable[onnx.NodeProto], known: set[str]) -> Iterator[str]:
    """What nodes make is added to ``known``."""
    for node in nodes:
        for name in node.input:
            if name and name not in known:
                yield f"'{name}' is read by {node.op_type} '{node.name}'"
        for attribute in node.attribute:
            for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _graph(graph, known)
        known.update(node.output)
