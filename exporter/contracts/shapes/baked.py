"""Find the node that holds a constant which tracing took from the example.

A constant that is the example's size may be one by accident (the exponent of a square, the axes of
an Unsqueeze), so it is tried: the file is run at the size that comes out wrong, with the size of
that run in the constant's place. What then agrees with PyTorch was baked there; where nothing
does, nobody is accused. Where already the example's own size comes out wrong it was no size that
was baked in but a value: then the first table of numbers in the file that is no parameter and no
buffer of the module is named (SpeechBrain 0.5.16: the example's mean).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from exporter.contracts.result import Location
from exporter.contracts.shapes.baked_trial import Agrees, Trial, sizes_that_move
from exporter.contracts.shapes.sizes import SweepAxis
from exporter.contracts.state import checksum, held_tensors
from exporter.contracts.target import Target
from exporter.core.tensors import Arrays
from exporter.graph.index import GraphIndex

_LEAST_TABLE = 9
"""Smaller constants are epsilons, paddings and factors that belong to the code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baked:
    """The node and the constant (no place: they are not located), and all candidates."""

    place: Location | None
    what: str
    candidates: list[str] = field(default_factory=list)


def find_baked(
    target: Target,
    axes: Sequence[SweepAxis],
    *,
    good: Arrays,
    bad: Arrays,
    agrees: Agrees,
    stops_at: str,
    at_example: bool = False,
) -> Baked:
    """Name the node that holds the constant, or say that it is not located.

    Args:
        axes: the dynamic axes; a constant of any of them may spoil the sizes of another.
        good, bad: inputs of the sizes that were traced, and of some that come out wrong.
        agrees: tells whether outputs on ``bad`` are PyTorch's.
        stops_at: name of the node at which onnxruntime stops; "" where it runs.
        at_example: also the size of the example is wrong.
    """
    graph = target.onnx.file.graph
    if at_example:
        table = _foreign_table(target, graph)
        if table is not None:
            return table
    sizes = sizes_that_move(target, good, bad)
    candidates = _constants(graph, frozenset(sizes))
    listed = [_text(graph, *item) for item in candidates[:10]]
    names = tuple(dict.fromkeys(name for _, name in candidates))
    name = Trial(target, sizes, bad, agrees).guilty(names)
    if name is not None:
        node = next(node for node, constant in candidates if constant == name)
        place = target.onnx.place(graph.nodes[node].output[0])
        return Baked(
            place=place,
            what=f"node '{graph.nodes[node].name}' ({graph.nodes[node].op_type}) holds the "
            f"constant {_shown(graph.array(name))} of the example: with the size of this run in"
            f" its place the file agrees with {target.beside}",
            candidates=listed,
        )
    place = target.onnx.place_of_node(stops_at)
    if place is None:
        return Baked(place=None, what="the op is not located", candidates=listed)
    what = f"onnxruntime stops at {place}; where the size comes from is not located"
    return Baked(place=place, what=what, candidates=listed)


def _foreign_table(target: Target, graph: GraphIndex) -> Baked | None:
    own = {
        checksum(turned.contiguous())
        for item in held_tensors(target.module)
        for turned in _turned(item.tensor)
    }
    for node, names in enumerate(graph.reads):
        for name in names:
            if (
                name not in graph.initializers
                or math.prod(graph.initializers[name].dims) < _LEAST_TABLE
            ):
                continue
            array = np.ascontiguousarray(graph.array(name))
            if array.dtype.kind == "f" and checksum(torch.from_numpy(array)) not in own:
                place = target.onnx.place(graph.nodes[node].output[0])
                return Baked(
                    place=place,
                    what=f"node '{graph.nodes[node].name}' ({graph.nodes[node].op_type}) holds a "
                    f"{_shown(array)} that is no parameter and no buffer of the module: a value "
                    "of the example",
                )
    return None


def _turned(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """A tensor with its axes in every order: exporters store matrices the other way round."""
    orders = itertools.permutations(range(tensor.dim())) if tensor.dim() <= 3 else ()
    yield from (tensor.permute(order) for order in orders)
    if tensor.dim() > 3:
        yield tensor


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


def _text(graph: GraphIndex, node: int, name: str) -> str:
    proto = graph.nodes[node]
    return f"{proto.op_type} '{proto.name}': {_shown(graph.array(name))}"


def _shown(array: np.ndarray) -> str:
    return str(array.tolist()) if array.size <= 8 else f"table {list(array.shape)}"
