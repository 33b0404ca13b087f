"""What the nodes of a file really hold: float16, 8 bits with their scales, 4 bits, or nothing less.

A tap is computed by a piece of the graph, from the taps and inputs in front of it:

    x -> [DynamicQuantizeLinear] -> [MatMulInteger] -> [Cast] -> [Mul] -> [Add] -> linear

What the piece stores in between is what the tap may cost: 8 bits here, though x and linear are
float32. A LayerNormalization beside it that reads and gives float32 costs what float32 costs.
Nothing here is taken from names, and nothing from what somebody declares.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from exporter.core.operators import is_standard
from exporter.graph.grids import (
    FLOATS,
    INTEGER_BITS,
    STORED_INTEGERS,
    Grid,
    QuantisedWeight,
    bits_of,
    is_quantised_node,
    quantises_activations,
    result_grid,
    weights_of,
)
from exporter.graph.index import GraphIndex
from exporter.graph.value_types import value_types

if TYPE_CHECKING:
    from exporter.graph.program import Program

# Show elements of their first input and compute nothing: a value behind them is still that value.
_MOVES = frozenset(
    "Reshape Transpose Squeeze Unsqueeze Identity Flatten Slice Gather Expand DequantizeLinear "
    "QuantizeLinear Cast Split".split()
)
# A value that only tells sizes is no value of the network.
_SIZES = frozenset({"Shape", "Size"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the piece of a file that computes one value holds.

    Attributes:
        formats: what is coarser than the model itself: "float16", "bfloat16", "int8", "int4" ...
        activations: values are quantised on the way, not only weights.
        weights: the quantised weights that the piece reads.
        sources: static grids on which values that enter the piece are stored, by ONNX name.
        results: static grids through which the value itself goes before it leaves.
        inner: static grids on which values are given inside, one of them the value itself's.
    """

    formats: tuple[str, ...] = ()
    activations: bool = False
    weights: tuple[QuantisedWeight, ...] = ()
    sources: Mapping[str, tuple[Grid, ...]] = field(default_factory=dict)
    results: tuple[Grid, ...] = ()
    inner: tuple[Grid, ...] = ()


NOTHING = Held()


def native_formats(program: Program) -> frozenset[str]:
    """Formats that the captured model is in itself: to hold them is no loss."""
    native = {op.dtype for op in program.ops if op.dtype}
    native |= {str(t.dtype).removeprefix("torch.") for t in program.tensors.values()}
    formats = native | {"float32", "float64"}
    if any("quantize" in op.target for op in program.ops):
        formats |= set(STORED_INTEGERS)
    return frozenset(formats)


def _may_lower(graph: GraphIndex) -> bool:
    """False for a file in which nothing but float32 and float64 can be found, at a glance."""
    usual = (TensorProto.FLOAT, TensorProto.DOUBLE)
    given = [value.type.tensor_type.elem_type for value in graph.model.graph.input]
    kinds = {*given, *(tensor.data_type for tensor in graph.initializers.values())}
    if any(kind in FLOATS and kind not in usual for kind in kinds):
        return True
    return bool(graph.model.functions) or any(
        is_quantised_node(node) or _casts(node, usual) for node in graph.nodes
    )


def _casts(node: onnx.NodeProto, usual: tuple[int, ...]) -> bool:
    """True for a node that may make another floating type, or that has nodes inside."""
    return any(
        attribute.HasField("g")
        or (
            attribute.name in ("to", "dtype") and attribute.i in FLOATS and attribute.i not in usual
        )
        or (
            (attribute.HasField("t") and attribute.t.data_type in FLOATS)
            and attribute.t.data_type not in usual
        )
        for attribute in node.attribute
    )


class HeldPrecision:
    """What every piece of one file holds.

    Args:
        graph: the file.
        cut: names of the values between pieces (taps). Empty when none is known.
        native: formats that the model itself is in: they are no loss.
    """

    def __init__(self, graph: GraphIndex, cut: Collection[str], native: Collection[str]):
        self._graph = graph
        self._cut = frozenset(cut)
        self._native = frozenset(native)
        self._types = value_types(graph) if _may_lower(graph) else {}
        self._found: dict[str, Held] = {}

    @cached_property
    def formats(self) -> tuple[str, ...]:
        """All that the file holds anywhere."""
        return self._piece(range(len(self._graph.nodes)), None).formats

    @cached_property
    def whole(self) -> Held:
        """The file taken as one piece."""
        return self._piece(range(len(self._graph.nodes)), None)

    @cached_property
    def static(self) -> bool:
        """True when values are quantised with constant scales somewhere."""
        return any(
            (node.op_type == "QuantizeLinear" and node.input[1] in self._graph.initializers)
            or node.op_type.startswith("QLinear")
            for node in self._graph.nodes
        )

    def of(self, name: str) -> Held:
        """What the piece that computes the value ``name`` holds; of a constant, its own format."""
        if name not in self._found:
            nodes = self._nodes(name, self._cut)
            self._found[name] = self._piece(nodes, name) if nodes else self._stored(name)
        return self._found[name]

    def constant_dtype(self, name: str) -> str:
        """numpy name of the dtype of a floating constant; "" for all else."""
        return self.dtype(name) if name in self._graph.initializers else ""

    def _stored(self, name: str) -> Held:
        formats = {self.constant_dtype(name)} - {"", "float32", "float64"} - self._native
        return Held(formats=tuple(formats)) if formats else NOTHING

    def behind(self, name: str, native: Collection[str] = ()) -> tuple[str, ...]:
        """Formats of everything that the value ``name`` is computed from.

        Args:
            native: formats of the model itself that count as well: a float32 value behind float16
                ones is no better than they are.
        """
        formats = self._behind.get(name, frozenset())
        return tuple(sorted(formats - (self._native - set(native))))

    @cached_property
    def _behind(self) -> dict[str, frozenset[str]]:
        behind = {name: frozenset(self._stored(name).formats) for name in self._graph.initializers}
        for at, node in enumerate(self._graph.nodes):
            if node.op_type in _SIZES:
                continue
            formats = self._everything([at])
            for source in self._graph.reads[at]:
                formats |= behind.get(source, frozenset())
            if formats:
                behind |= dict.fromkeys(node.output, frozenset(formats))
        return behind

    def seen(self, name: str) -> Grid | None:
        """The grid through which everybody who reads a value sees it; None if somebody does not.

        A quantiser takes a Relu away whose grid begins at zero: the value that has its name is
        then negative in places, and nobody ever reads that.
        """
        readers = self._graph.consumers.get(name, ())
        nodes = [self._graph.nodes[at] for at in readers]
        if name in self._graph.outputs or not nodes:
            return None
        if any(n.op_type != "QuantizeLinear" or n.input[0] != name for n in nodes):
            return None
        grids = {self._grid(node) for node in nodes}
        return grids.pop() if len(grids) == 1 else None

    def dtype(self, name: str) -> str:
        """numpy name of the dtype of a value; "" where it is not known."""
        return FLOATS.get(self._types.get(name, 0), "")

    def _nodes(self, name: str, cut: frozenset[str]) -> list[int]:
        graph, nodes = self._graph, set[int]()
        stack = [graph.producer[name]] if name in graph.producer else []
        while stack:
            at = stack.pop()
            if at in nodes:
                continue
            nodes.add(at)
            if graph.nodes[at].op_type in _SIZES:
                continue
            stack.extend(
                graph.producer[source]
                for source in graph.reads[at]
                if source not in cut and source in graph.producer
            )
        return sorted(nodes)

    def _piece(self, nodes: Iterable[int], name: str | None) -> Held:
        nodes = list(nodes)
        formats = self._formats(nodes)
        seen = self.seen(name) if name is not None else None
        if not formats and seen is None:
            return NOTHING
        graph = self._graph
        inside = {out for at in nodes for out in graph.nodes[at].output}
        return Held(
            formats=formats or ((f"int{seen.bits}",) if seen else ()),
            activations=any(quantises_activations(graph, at) for at in nodes),
            weights=tuple(weight for at in nodes for weight in weights_of(graph, at, nodes)),
            sources=self._sources(nodes, inside) if name is not None else {},
            inner=tuple(g for at in nodes if (g := result_grid(graph, at)) is not None),
            results=self._all_results(name) if name is not None else (),
        )

    def _formats(self, nodes: Iterable[int]) -> tuple[str, ...]:
        return tuple(sorted(self._everything(nodes) - self._native))

    def _everything(self, nodes: Iterable[int]) -> set[str]:
        graph, names = self._graph, set[str]()
        for at in nodes:
            node = graph.nodes[at]
            # A piece that begins with the sizes of a value does not hold that value.
            if node.op_type in _SIZES:
                continue
            for value in (*graph.reads[at], *node.output):
                dtype = FLOATS.get(self._types.get(value, 0), "")
                if dtype not in ("", "float32", "float64"):
                    names.add(dtype)
            if is_quantised_node(node):
                names |= bits_of(graph, at, self._types)
        return names

    def _sources(self, nodes: Iterable[int], inside: set[str]) -> dict[str, tuple[Grid, ...]]:
        """Static grids right behind what enters a piece."""
        sources: dict[str, list[Grid]] = {}
        for at in nodes:
            node = self._graph.nodes[at]
            if node.op_type != "QuantizeLinear":
                continue
            source = self._origin(node.input[0], inside)
            grid = self._grid(node)
            if source is not None and grid is not None:
                sources.setdefault(source, []).append(grid)
        return {name: tuple(dict.fromkeys(grids)) for name, grids in sources.items()}

    def _origin(self, name: str, inside: set[str]) -> str | None:
        """What enters the piece and is shown at ``name``; None if something was computed."""
        while name in inside:
            if name in self._cut:
                return name
            node = self._graph.nodes[self._graph.producer[name]]
            if node.op_type not in _MOVES or not is_standard(node):
                return None
            name = node.input[0]
        return None if name in self._graph.initializers else name

    def _all_results(self, name: str) -> tuple[Grid, ...]:
        seen = self.seen(name)
        return tuple(dict.fromkeys((*self._results(name), *((seen,) if seen else ()))))

    def _results(self, name: str) -> tuple[Grid, ...]:
        """Grids between the last thing that is computed and the value itself."""
        grids: list[Grid] = []
        graph = self._graph
        while name in graph.producer:
            node = graph.nodes[graph.producer[name]]
            if node.op_type == "DequantizeLinear":
                grid = self._grid(node)
                if grid is not None and node.input[0] not in graph.initializers:
                    grids.append(grid)
            if node.op_type not in _MOVES or not node.input or node.input[0] in self._cut:
                break
            name = node.input[0]
        return tuple(dict.fromkeys(grids))

    def _grid(self, node: onnx.NodeProto) -> Grid | None:
        """The grid of a QuantizeLinear or DequantizeLinear whose scale is a constant."""
        graph = self._graph
        if node.input[1] not in graph.initializers:
            return None
        scale = graph.array(node.input[1]).astype(np.float64)
        if scale.size != 1:
            return None
        quantised = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        kind, zero = self._types.get(quantised, 0), 0
        if len(node.input) > 2 and node.input[2]:
            if node.input[2] not in graph.initializers:
                return None
            kind = graph.initializers[node.input[2]].data_type
            zero = int(graph.array(node.input[2]).reshape(-1)[0])
        kind = kind or TensorProto.UINT8
        if kind not in INTEGER_BITS:
            return None
        low, high = INTEGER_BITS[kind].ends
        return Grid(step=float(scale.reshape(-1)[0]), zero=zero, low=low, high=high)
