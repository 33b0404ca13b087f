"""A file with a VAD as two models: what finds the segments, and what is done with each of them.

    waveform -> [front] -> segments, speech_probs     num_segments
                              | some of its rows           | how many
    waveform, prompts ----> [back] -> token_ids, ...       v

A graph learns how many segments there are from the shape of a value inside the VAD. Such a number
crosses the cut as a value of its own, and whoever runs the back on some of the segments gives
their number instead. Sizes that follow from the length of the waveform are computed on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from exporter.core.errors import ArtifactError
from exporter.graph.index import GraphIndex
from exporter.graph.subgraph import WindowGraph, cut_window

SEGMENTS = "segments"
WAVEFORM = "waveform"
_LEFT_TO = "run the file as a whole instead"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSplit:
    """The two models of a file.

    Attributes:
        front: from the graph's inputs to ``segments``, to the outputs that do not depend on them,
            and to ``counts``.
        back: from the graph's inputs, ``segments`` [R, 2] and ``counts`` to the other outputs.
        counts: int64 values of one axis whose first entry is the number of segments.
    """

    front: WindowGraph
    back: WindowGraph
    counts: tuple[str, ...]


def split_at_segments(graph: GraphIndex, where: str) -> SegmentSplit:
    """Cut a graph at ``segments``.

    Args:
        graph: of a file whose weights are left in place (``read_in_place``).
        where: the file, for errors.

    Raises:
        ArtifactError: the file has no waveform, no segments or nothing behind them, or what lies
            behind them reads more of the VAD than the segments and their number.
    """
    if WAVEFORM not in graph.inputs or SEGMENTS not in graph.producer:
        missing = WAVEFORM if WAVEFORM not in graph.inputs else SEGMENTS
        raise ArtifactError(
            f"the file has no '{missing}', so it cannot be run segment by segment",
            where=where,
            remedy=f"export it from a pipeline with a vad, or {_LEFT_TO}",
        )
    cut = _Cut(graph, where)
    vad = cut.behind([SEGMENTS], stop=frozenset())
    cut.front = frozenset(vad)
    per_segment = [name for name in graph.outputs if cut.depends_on_segments(name)]
    back = cut.behind(per_segment, stop=frozenset({SEGMENTS}))
    if not back:
        raise ArtifactError(
            "every output of the file is the VAD's; there is nothing to run per segment",
            where=where,
            remedy="run the file as a whole",
        )
    counts = tuple(sorted(cut.counts))
    early = [name for name in graph.outputs if name not in per_segment]
    front = {*vad, *cut.whole([*early, *counts])}
    declared = {
        value.name: value for value in [*graph.model.graph.input, *graph.model.graph.output]
    }
    for value in declared.values():
        if value.type.tensor_type.elem_type not in helper.get_all_tensor_dtypes():
            raise ArtifactError(
                f"'{value.name}' is declared as no tensor of a known type",
                where=where,
                remedy="export the file again",
            )
    first = _window(graph, front, [SEGMENTS, *early, *counts], declared)
    declared |= _shapes(first.model, counts)
    return SegmentSplit(
        front=first, back=_window(graph, back, per_segment, declared), counts=counts
    )


class _Cut:
    """Walks back from values to what they are computed of, as far as the cut."""

    def __init__(self, graph: GraphIndex, where: str) -> None:
        self.graph = graph
        self.where = where
        self.front: frozenset[int] = frozenset()
        self.counts: set[str] = set()

    def whole(self, names: Iterable[str]) -> set[int]:
        """Nodes that compute ``names`` from the inputs of the graph."""
        nodes: set[int] = set()
        waiting = list(names)
        while waiting:
            node = self.graph.producer.get(waiting.pop())
            if node is not None and node not in nodes:
                nodes.add(node)
                waiting += self.graph.reads[node]
        return nodes

    def depends_on_segments(self, name: str) -> bool:
        """True for an output that lies behind the segments."""
        if name == SEGMENTS or self.graph.producer.get(name) in self.front:
            return False
        nodes = self.whole([name])
        return any(SEGMENTS in self.graph.reads[node] for node in nodes)

    def behind(self, names: Iterable[str], *, stop: frozenset[str]) -> set[int]:
        """Nodes that compute ``names`` from ``stop``; notes the counts that are read on the way."""
        nodes: set[int] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            node = self.graph.producer.get(name)
            if node is None or node in nodes or name in stop:
                continue
            if self._measures_front(node, stop):
                self.counts.add(name)
                continue
            if node in self.front and not self._is_size(node):
                raise ArtifactError(
                    f"what is done with a segment reads '{name}' of the VAD besides its segments",
                    where=self.where,
                    remedy=_LEFT_TO,
                )
            nodes.add(node)
            waiting += self.graph.reads[node]
        return nodes

    def _measures_front(self, node: int, stop: frozenset[str]) -> bool:
        source = self.graph.reads[node][:1]
        is_shape = self.graph.nodes[node].op_type == "Shape" and source[0] not in stop
        return is_shape and self.graph.producer.get(source[0]) in self.front

    def _is_size(self, node: int) -> bool:
        """True where nothing but shapes and constants is computed with."""
        waiting, seen = [node], {node}
        while waiting:
            node = waiting.pop()
            if self.graph.nodes[node].op_type == "Shape":
                continue
            for name in self.graph.reads[node]:
                source = self.graph.producer.get(name)
                if source is None and name not in self.graph.initializers:
                    return False
                if source is not None and source not in seen:
                    seen.add(source)
                    waiting.append(source)
        return True


def _window(
    graph: GraphIndex,
    nodes: set[int],
    outputs: list[str],
    declared: dict[str, onnx.ValueInfoProto],
) -> WindowGraph:
    dtypes = {
        name: np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for name, value in declared.items()
    }
    window = cut_window(
        graph,
        tuple(sorted(nodes)),
        keep=outputs,
        pending=(),
        forced=frozenset(),
        dtypes=dtypes,
        in_place=True,
    )
    # onnxruntime fuses less where it does not know how many axes a value has.
    for value in window.model.graph.input:
        value.CopyFrom(declared[value.name])
    return window


def _shapes(model: onnx.ModelProto, names: tuple[str, ...]) -> dict[str, onnx.ValueInfoProto]:
    """Values that Shape nodes of a model compute; their length where it can be inferred."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        inferred = onnx.GraphProto()
    known = {value.name: value for value in [*inferred.value_info, *inferred.output]}
    shapes = {}
    for name in names:
        dims = known[name].type.tensor_type.shape.dim if name in known else ()
        length = dims[0].dim_value if dims and dims[0].HasField("dim_value") else None
        shapes[name] = helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [length])
    return shapes
