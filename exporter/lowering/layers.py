"""What may be lowered: nodes of the float32 file, and the taps at which they show.

    file         x -> [MatMul] -> matmul -> [Add] -> linear -> ...
    in a layer        \\_____ nodes _____/            tap

Nodes between the same compared values cannot be told apart: they are one layer, lowered together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from exporter.core.tensors import COMPARED, PlannedTap
from exporter.graph.index import GraphIndex
from exporter.interpret.propagated import Effects

_WEIGHT_SLOTS: Mapping[str, tuple[int, ...]] = {
    "MatMul": (0, 1),
    "Gemm": (1,),
    "Conv": (1,),
    "ConvTranspose": (1,),
    "LSTM": (1, 2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Nodes that are lowered or kept together.

    Attributes:
        name: the module's path where it has one layer, else the tap's name.
        nodes: names of nodes of the float32 file. kinds: their operators.
        taps: names of the program's values that they compute. module: of the first.
        weights: elements of the constants that they read.
        reads: taps of other layers that they read.
    """

    name: str
    nodes: tuple[str, ...]
    kinds: tuple[str, ...]
    taps: tuple[str, ...]
    module: str
    weights: int
    reads: tuple[str, ...] = ()

    def called(self, text: str) -> bool:
        """Whether a user's word names this layer: its name, module, a tap or a node."""
        return text in (self.name, self.module, *self.taps, *self.nodes)


def find_layers(
    graph: GraphIndex,
    planned: Sequence[PlannedTap],
    lowered: Collection[str],
    kinds: Collection[str] | None,
) -> tuple[Layer, ...]:
    """The layers of the float32 file that are lowered in another one.

    Args:
        graph: the float32 file. planned: taps that both have, by their names in ``graph``.
        lowered: taps that it computes in a lower precision.
        kinds: operators that an engine lowers where their weights are constants; None for all.
    """
    compared = [tap for tap in planned if tap.fate == COMPARED and not tap.constant]
    compared = [tap for tap in compared if tap.onnx_name in graph.producer]
    cut = {tap.onnx_name: tap.tap.name for tap in compared}
    groups: list[tuple[set[int], list[PlannedTap]]] = []
    for tap in compared:
        if tap.tap.name not in lowered:
            continue
        piece = {at for at in _piece(graph, tap.onnx_name, cut) if _may(graph, at, kinds)}
        if not piece:
            continue
        taps = [tap]
        for nodes, others in [group for group in groups if group[0] & piece]:
            groups.remove((nodes, others))
            piece |= nodes
            taps = [*others, *taps]
        groups.append((piece, taps))
    return _named(graph, groups, cut)


def as_read(tap: str) -> str:
    """What the error is called that a layer makes of a tap that it reads."""
    return f"{tap}, as it is read"


def by_layer(layers: Sequence[Layer], effects: Effects) -> Effects:
    """Effects of taps, added up over the taps of each layer, and over those that it reads.

    A layer in float16 rounds what it reads, whoever computes it: one that stays in float32 in front
    of it keeps nothing.
    """
    place = {name: n for n, name in enumerate(effects.layers)}
    names = [[*layer.taps, *map(as_read, layer.reads)] for layer in layers]
    inside = [[place[name] for name in held if name in place] for held in names]

    def added(rows: np.ndarray) -> np.ndarray:
        # No product with zeros and ones: what is no number (a gradient on silence) is one layer's.
        columns = [rows[:, places].sum(axis=1) for places in inside]
        return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0))

    return replace(
        effects,
        layers=tuple(layer.name for layer in layers),
        spread=added(effects.spread),
        shifts=added(effects.shifts),
    )


def piece_of(graph: GraphIndex, name: str, cut: Collection[str]) -> tuple[int, ...]:
    """Indices of the nodes that compute a value from the values in ``cut``."""
    return tuple(sorted(_piece(graph, name, cut)))


def _piece(graph: GraphIndex, name: str, cut: Collection[str]) -> set[int]:
    nodes: set[int] = set()
    stack = [graph.producer[name]]
    while stack:
        at = stack.pop()
        if at in nodes:
            continue
        nodes.add(at)
        stack += [
            graph.producer[source]
            for source in graph.reads[at]
            if source not in cut and source in graph.producer
        ]
    return nodes


def _may(graph: GraphIndex, at: int, kinds: Collection[str] | None) -> bool:
    node = graph.nodes[at]
    if kinds is None:
        return True
    return node.op_type in kinds and bool(_weights(graph, node))


def _weights(graph: GraphIndex, node: onnx.NodeProto) -> list[onnx.TensorProto]:
    slots = _WEIGHT_SLOTS.get(node.op_type, ())
    names = [node.input[slot] for slot in slots if slot < len(node.input)]
    return [graph.initializers[name] for name in names if name in graph.initializers]


def _named(
    graph: GraphIndex,
    groups: Iterable[tuple[set[int], list[PlannedTap]]],
    cut: Mapping[str, str],
) -> tuple[Layer, ...]:
    groups = sorted(groups, key=lambda group: min(group[0]))
    modules = [taps[0].tap.module for _, taps in groups]
    layers = []
    for (places, taps), module in zip(groups, modules, strict=True):
        nodes = [graph.nodes[at] for at in sorted(places)]
        alone = bool(module) and modules.count(module) == 1
        own = {tap.onnx_name for tap in taps}
        read = dict.fromkeys(name for at in sorted(places) for name in graph.reads[at])
        sizes = [np.prod(t.dims, dtype=np.int64) for n in nodes for t in _weights(graph, n)]
        layers.append(
            Layer(
                name=module if alone else taps[0].tap.name,
                nodes=tuple(node.name for node in nodes),
                kinds=tuple(dict.fromkeys(node.op_type for node in nodes)),
                taps=tuple(tap.tap.name for tap in taps),
                module=module,
                weights=int(sum(sizes)),
                reads=tuple(cut[name] for name in read if name in cut and name not in own),
            )
        )
    return tuple(layers)
