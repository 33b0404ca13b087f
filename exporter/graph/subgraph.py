"""Cut windows out of an ONNX graph.

A window is the set of nodes that is still needed to compute some values. In a free window each
node reads what earlier nodes computed. In a forced window every tapped value that a node reads
comes in as an input, and the value that the graph itself computes leaves under another name:

    free    x -> [MatMul] -> a -> [Add] -> b          outputs a, b
    forced  x -> [MatMul] -> a::own     a -> [Add] -> b::own     inputs x, a

onnxruntime copies every weight of a session into it, twice, so that the windows of a large model
would hold several copies of it. The matrices of products, which are nearly all of a model, are
therefore inputs of a window and read where they lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporter.core.operators import is_standard
from exporter.graph.index import GraphIndex
from exporter.graph.stored_tensors import external_tensors, point

OWN = "::own"
"""Suffix of a tapped value as a forced window computes it."""

# Sequences cannot cross a session boundary; what makes one is cheap to repeat.
_REPEATED = frozenset({"SplitToSequence", "SequenceConstruct", "SequenceEmpty"})
# Kernels that compute the same whether an operand is a constant or not (windows never prepack).
_PRODUCTS = frozenset({"MatMul", "Gemm"})
_HANDED_TYPES = frozenset(
    getattr(onnx.TensorProto, name)
    for name in "FLOAT DOUBLE FLOAT16 BFLOAT16 BOOL".split()
    + [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
)
_FED_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


@dataclass(slots=True)
class Partition:
    """Hands out the nodes of a graph window by window; each node once, in graph order.

    Attributes:
        stops: values that come from outside: nodes in front of them are handed out only where
            something else needs them.
    """

    graph: GraphIndex
    taken: set[int] = field(default_factory=set)
    stops: frozenset[str] = frozenset()

    def take(self, names: Iterable[str]) -> tuple[int, ...]:
        """Nodes, not handed out before, that are needed to compute ``names``."""
        nodes: set[int] = set()
        stack = [self.graph.producer[name] for name in names if name in self.graph.producer]
        while stack:
            node = stack.pop()
            if node in nodes or node in self.taken:
                continue
            nodes.add(node)
            for name in self.graph.reads[node]:
                producer = self.graph.producer.get(name)
                if producer is not None and name not in self.stops:
                    stack.append(producer)
        for node in nodes:
            if self.graph.nodes[node].op_type not in _REPEATED:
                self.taken.add(node)
        return tuple(sorted(nodes))

    def is_awaited(self, name: str) -> bool:
        """True while a node that was not handed out yet reads ``name``.

        A repeated node is handed out again and again: it reads for those that read it.
        """
        return any(
            any(self.is_awaited(result) for result in self.graph.nodes[user].output)
            if self.graph.nodes[user].op_type in _REPEATED
            else user not in self.taken
            for user in self.graph.consumers.get(name, ())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowGraph:
    """One window as a model of its own; weights are referenced, not copied.

    Attributes:
        model: initialisers are declared as external; feed them by name when loading.
        inputs: values to feed.
        outputs: names of the model's outputs.
        weights: names of the initialisers to feed when loading.
        fed: names of the initialisers that are inputs of the model, to feed in every run.
    """

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    fed: tuple[str, ...] = ()


def cut_window(
    graph: GraphIndex,
    nodes: tuple[int, ...],
    *,
    keep: Iterable[str],
    dtypes: Mapping[str, np.dtype],
    pending: Iterable[str] = (),
    forced: frozenset[str] = frozenset(),
    feed_matrices: bool = False,
    in_place: bool = False,
) -> WindowGraph:
    """Build the model of one window.

    Args:
        graph: the whole graph.
        nodes: indices from ``Partition.take``.
        keep: values computed here that must leave (taps and graph outputs).
        pending: values that nodes of later windows read; those computed here leave too.
        forced: tapped values to be fed instead of computed; empty for a free window.
        dtypes: dtype of every value that may come in.
        feed_matrices: make the weights of matrix products inputs instead of initialisers.
        in_place: leave weights where the graph has them, in the model or in its external data.
    """
    produced: set[str] = {name for i in nodes for name in graph.nodes[i].output if name}
    repeated = {
        name for i in nodes if graph.nodes[i].op_type in _REPEATED for name in graph.nodes[i].output
    }
    inputs: dict[str, None] = {}
    weights: dict[str, None] = {}
    for i in nodes:
        for name in graph.reads[i]:
            if name in graph.initializers:
                weights[name] = None
            elif name in forced or name not in produced:
                inputs[name] = None
    leaving = dict.fromkeys(name for name in keep if name in produced)
    leaving.update(
        dict.fromkeys(name for name in pending if name in produced and name not in forced)
    )
    model = onnx.ModelProto(ir_version=graph.model.ir_version)
    model.opset_import.extend(graph.model.opset_import)
    model.functions.extend(graph.model.functions)
    body = model.graph
    body.name = "window"
    for i in nodes:
        node = body.node.add()
        node.CopyFrom(graph.nodes[i])
        del node.metadata_props[:]
        for k, name in enumerate(node.output):
            if name in forced:
                node.output[k] = name + OWN
    for name in inputs:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtypes[name]))
        body.input.append(helper.make_tensor_value_info(name, kind, None))
    outputs = tuple(
        name + OWN if name in forced else name for name in leaving if name not in repeated
    )
    for name in outputs:
        body.output.add(name=name)
    fed = tuple(name for name in weights if feed_matrices and _is_matrix(graph, name))
    for name in fed:
        tensor = graph.initializers[name]
        # With its shape: fusions ask for it.
        body.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
        del weights[name]
    tensors = [graph.initializers[name] for name in weights]
    body.initializer.extend(tensors if in_place else (_declared(graph, t) for t in tensors))
    kept = () if in_place else tuple(t.name for t in tensors if not _stays(t))
    return WindowGraph(model=model, inputs=tuple(inputs), outputs=outputs, weights=kept, fed=fed)


def _is_matrix(graph: GraphIndex, name: str) -> bool:
    """True for a large floating weight that only products read.

    float16 as well: onnxruntime widens it in every run then, but as a constant every window would
    hold it widened, and those of a billion weights do not fit.
    """
    tensor = graph.initializers[name]
    if tensor.data_type not in _FED_TYPES or len(tensor.dims) != 2:
        return False
    if _is_small(tensor) or name in graph.outputs:
        return False
    readers = [graph.nodes[i] for i in graph.consumers.get(name, ())]
    return all(n.op_type in _PRODUCTS and is_standard(n) for n in readers)


def _stays(tensor: onnx.TensorProto) -> bool:
    """True for a weight that stands in the window's own model: small, or of no format of numpy's.

    onnxruntime is handed memory by numpy's formats (and bfloat16): no text, four bits or float8.
    """
    return _is_small(tensor) or tensor.data_type not in _HANDED_TYPES


def _is_small(tensor: onnx.TensorProto) -> bool:
    # By shape: the bytes of a large tensor may have been moved out of the protobuf.
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    return not external and int(np.prod(tensor.dims, dtype=np.int64)) < 256


def _declared(graph: GraphIndex, tensor: onnx.TensorProto) -> onnx.TensorProto:
    """A weight that stays, or the declaration of one whose bytes the session is handed."""
    if _is_small(tensor):
        return tensor
    if _stays(tensor):
        # Its bytes may have been moved out of the protobuf.
        return numpy_helper.from_array(graph.array(tensor.name), tensor.name)
    slim = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    point(slim, "in-memory", 0, 0)
    return slim


def piece_of(graph: GraphIndex, name: str, stops: frozenset[str]) -> tuple[int, ...]:
    """Indices of the nodes between a value and the values in ``stops`` that it is made from."""
    nodes: set[int] = set()
    stack = [graph.producer[name]] if name in graph.producer else []
    while stack:
        node = stack.pop()
        if node in nodes:
            continue
        nodes.add(node)
        made = (n for n in graph.reads[node] if n not in stops and n in graph.producer)
        stack.extend(graph.producer[n] for n in made)
    return tuple(sorted(nodes))


def standalone(window: WindowGraph, graph: GraphIndex) -> onnx.ModelProto:
    """A window with its weights inside."""
    model = onnx.ModelProto()
    model.CopyFrom(window.model)
    stored = set(window.weights)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in stored]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for tensor in external_tensors(model):
        graph.take_in(tensor)
    for name in window.weights:
        model.graph.initializer.append(numpy_helper.from_array(graph.array(name), name))
    return model
