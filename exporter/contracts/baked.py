"""Find the node that holds a constant which tracing took from the example.

Two hints lead to it: the node that onnxruntime names when it refuses a size, or else the first
value whose shape does not follow the input as the others do; and constants of the file that are
the example's size, or a table with that many rows. Where already the example's own size comes out
wrong it was no size that was baked in but a value: then the first table of numbers in the file
that is no parameter and no buffer of the module is named (SpeechBrain 0.5.16: the example's mean).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch

from exporter.contracts.result import Place
from exporter.contracts.shape_sizes import SweepAxis
from exporter.contracts.state import checksum, held_tensors
from exporter.contracts.subject import Subject
from exporter.errors import OnnxStoppedError
from exporter.graph.index import GraphIndex

_LEAST_TABLE = 9
"""Smaller constants are epsilons, paddings and factors that belong to the code."""
_NODE = re.compile(r"(\w+) node(?:\. Name:| )'([^']*)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baked:
    """The node, the constant, and other candidates."""

    place: Place
    what: str
    candidates: list[str] = field(default_factory=list)


def find_baked(
    subject: Subject,
    axes: Sequence[SweepAxis],
    *,
    good_inputs: dict[str, np.ndarray] | None,
    message: str,
    at_example: bool = False,
) -> Baked | None:
    """Name the node that holds the constant.

    Args:
        axes: the dynamic axes; a constant of any of them may spoil the sizes of another.
        good_inputs: inputs of a size that works, if there is one.
        message: what onnxruntime said, or how the outputs differ.
        at_example: also the size of the example is wrong.
    """
    graph = subject.onnx.made.graph
    held = _foreign_table(subject, graph) if at_example else None
    if held is not None:
        return held
    known = _sizes_at_example(subject, good_inputs, axes)
    candidates = _constants(graph, known)
    refused = refusing_node(graph, message)
    start = None if refused is None else graph.producer[refused.output[0]]
    if start is not None:
        near = _nearest(graph, start, {node for node, _ in candidates})
    else:
        near = min((node for node, _ in candidates), default=None)
    listed = [_text(graph, *item) for item in candidates[:10]]
    if near is None:
        if start is None:
            return None
        place = subject.onnx.place(graph.nodes[start].output[0])
        return Baked(place=place, what=f"onnxruntime stops at {place}", candidates=listed)
    name = next(constant for node, constant in candidates if node == near)
    place = subject.onnx.place(graph.nodes[near].output[0])
    return Baked(
        place=place,
        what=f"node '{graph.nodes[near].name}' ({graph.nodes[near].op_type}) holds the constant "
        f"{_shown(graph.array(name))}",
        candidates=listed,
    )


def _foreign_table(subject: Subject, graph: GraphIndex) -> Baked | None:
    own = {checksum(item.tensor.contiguous()) for item in held_tensors(subject.module)}
    for node, names in enumerate(graph.reads):
        for name in names:
            if name not in graph.initializers or math.prod(_dims(subject, name)) < _LEAST_TABLE:
                continue
            array = np.ascontiguousarray(graph.array(name))
            if array.dtype.kind == "f" and checksum(torch.from_numpy(array)) not in own:
                place = subject.onnx.place(graph.nodes[node].output[0])
                return Baked(
                    place=place,
                    what=f"node '{graph.nodes[node].name}' ({graph.nodes[node].op_type}) holds a "
                    f"{_shown(array)} that is no parameter and no buffer of the module: a value "
                    "of the example",
                )
    return None


def refusing_node(graph: GraphIndex, message: str) -> onnx.NodeProto | None:
    """The node that a message of onnxruntime names."""
    found = _NODE.search(message)
    if not found:
        return None
    return next((node for node in graph.nodes if node.name == found[2]), None)


def _sizes_at_example(
    subject: Subject, good_inputs: dict[str, np.ndarray] | None, axes: Sequence[SweepAxis]
) -> frozenset[int]:
    """Sizes that inner values have at the example because of the dynamic axes."""
    sizes = {axis.example for axis in axes}
    if good_inputs is None:
        return frozenset(sizes)
    try:
        for _, (value,) in subject.onnx.walk((good_inputs,)):
            sizes.update(size for size in value.shape if size > 2)
    except OnnxStoppedError:
        return frozenset(sizes)
    weights = {
        size for name in subject.onnx.made.graph.initializers for size in _dims(subject, name)
    }
    return frozenset(sizes - weights | {axis.example for axis in axes})


def _dims(subject: Subject, name: str) -> tuple[int, ...]:
    return tuple(subject.onnx.made.graph.initializers[name].dims)


def _constants(graph: GraphIndex, sizes: frozenset[int]) -> list[tuple[int, str]]:
    """(node, constant) pairs where a node reads a constant that is one of ``sizes``; the surest
    kinds first: integers, then floats of that value, then tables with that many rows."""
    ranked: list[tuple[int, int, str]] = []
    for node, names in enumerate(graph.reads):
        for name in names:
            if name not in graph.initializers:
                continue
            rank = _rank(graph, name, sizes)
            if rank is not None:
                ranked.append((rank, node, name))
    return [(node, name) for _, node, name in sorted(ranked)]


def _rank(graph: GraphIndex, name: str, sizes: frozenset[int]) -> int | None:
    dims = tuple(graph.initializers[name].dims)
    count = int(np.prod(dims, dtype=np.int64))
    if count <= 16:
        array = graph.array(name)
        if array.dtype.kind in "iu":
            return 0 if any(int(v) in sizes for v in array.reshape(-1)) else None
        if array.dtype.kind == "f":
            values = [abs(float(v)) for v in array.reshape(-1)]
            close = [v for v in values for s in sizes if v and (v == s or abs(v * s - 1) < 1e-6)]
            if close:
                return 1
    return 2 if any(dim in sizes for dim in dims) else None


def _nearest(graph: GraphIndex, start: int, wanted: set[int]) -> int | None:
    """The nearest of some nodes, upstream or at ``start`` first, then downstream."""
    queue, seen = [start], {start}
    while queue:
        node = queue.pop(0)
        if node in wanted:
            return node
        for name in graph.reads[node]:
            producer = graph.producer.get(name)
            if producer is not None and producer not in seen:
                seen.add(producer)
                queue.append(producer)
    return min(wanted, default=None)


def _text(graph: GraphIndex, node: int, name: str) -> str:
    found = graph.nodes[node]
    return f"{found.op_type} '{found.name}': {_shown(graph.array(name))}"


def _shown(array: np.ndarray) -> str:
    return str(array.tolist()) if array.size <= 8 else f"table {list(array.shape)}"
