"""Somebody else's lowered file with some layers put back in float32.

    theirs   tap_a -> [DynamicQuantizeLinear] -> [MatMulInteger] -> ... -> tap_b -> ...
    here     tap_a -> [MatMul, of the float32 file] ---------------------> tap_b -> ...

The nodes that compute a layer's values in the float32 file compute them here, from the same values
and with that file's weights; what theirs computed goes on under a name that nobody reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import read_whole
from exporter.graph.value_types import value_types
from exporter.lowering.layers import Layer, piece_of

_NEW = "restored::"
_OLD = "lowered::"
_NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def restore_layers(
    path: Path,
    theirs: GraphIndex,
    plain: GraphIndex,
    names: Mapping[str, str],
    layers: Sequence[Layer],
) -> onnx.ModelProto | None:
    """The file at ``path`` with ``layers`` in float32; None where one of them cannot be put back.

    Args:
        theirs, plain: the lowered file and the float32 one.
        names: value of ``plain`` -> the same value in ``theirs``, of all that both have.
    """
    model = read_whole(path)
    types = value_types(theirs)
    initializer_names = {tensor.name for tensor in model.graph.initializer}
    for layer in layers:
        ends = [tap for tap in layer.taps if tap in names and tap in plain.producer]
        made = {name for node in model.graph.node for name in node.output}
        if not ends or any(names[end] not in made for end in ends):
            return None
        places = sorted({at for end in ends for at in piece_of(plain, end, names)})
        if not _put(model, plain, places, ends, names, types, initializer_names):
            return None
    sorted_model = ir.serde.deserialize_model(model)
    sorted_model.graph.sort()
    return ir.serde.serialize_model(sorted_model)


def _put(
    model: onnx.ModelProto,
    plain: GraphIndex,
    places: Sequence[int],
    ends: Sequence[str],
    names: Mapping[str, str],
    types: Mapping[str, int],
    initializer_names: set[str],
) -> bool:
    inside = {name for at in places for name in plain.nodes[at].output}
    known = {v.name for v in model.graph.input}
    known |= {name for node in model.graph.node for name in node.output}
    cast: dict[str, str] = {}

    def read(name: str) -> str:
        if not name or (name in inside and name not in names):
            return name and f"{_NEW}{name}"
        if name in plain.initializers:
            new = f"{_NEW}{name}"
            if new not in initializer_names:
                array = np.array(plain.array(name))
                model.graph.initializer.append(numpy_helper.from_array(array, new))
                initializer_names.add(new)
            return new
        source = names.get(name, name)
        if source not in known:
            raise KeyError(source)
        if types.get(source, 0) not in _NARROW:
            return source
        if source not in cast:
            cast[source] = f"{_NEW}{ends[0]}::{source}"
            node = helper.make_node("Cast", [source], [cast[source]], to=TensorProto.FLOAT)
            model.graph.node.append(node)
        return cast[source]

    added: list[onnx.NodeProto] = []
    try:
        for at in places:
            node = onnx.NodeProto()
            node.CopyFrom(plain.nodes[at])
            node.name = f"{_NEW}{node.name}"
            reads = [
                f"{_NEW}{name}" if name in inside and name in ends else read(name)
                for name in plain.nodes[at].input
            ]
            del node.input[:]
            node.input.extend(reads)
            outputs = [name and f"{_NEW}{name}" for name in node.output]
            del node.output[:]
            node.output.extend(outputs)
            added.append(node)
    except KeyError:
        return False
    for end in ends:
        theirs = names[end]
        for node in model.graph.node:
            for place, name in enumerate(node.output):
                if name == theirs:
                    node.output[place] = f"{_OLD}{theirs}"
        narrow = types.get(theirs, 0)
        given, gives = [f"{_NEW}{end}"], [theirs]
        added.append(
            helper.make_node("Cast", given, gives, to=narrow)
            if narrow in _NARROW
            else helper.make_node("Identity", given, gives)
        )
    model.graph.node.extend(added)
    return True
