"""A file in a lower precision with nodes of the float32 file in place of its own.

    lowered   x -> [DynamicQuantizeLinear] -> [MatMulInteger] -> [Cast] -> [Mul] -> y -> ...
    plain     x -> [MatMul, weight] ----------------------------------------------> y -> ...

An engine that leaves a node in float32 leaves the names of what it reads and gives. So the file
that it would write can be put together of both, and nothing is rounded twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from exporter.graph.onnx_file import read_in_place
from exporter.graph.weights_on_disk import StoredWeight, stored_weights


def put_back(
    lowered: Path, plain: Path, keep: Collection[str]
) -> tuple[onnx.ModelProto, dict[str, StoredWeight]] | None:
    """Put nodes of ``plain`` back into ``lowered``.

    Args:
        lowered: ``plain`` as an engine has lowered it. keep: names of nodes of ``plain``.

    Returns:
        the graph, and where its large weights lie, for ``store_shipped``; None where a node has no
        place in ``lowered``.

    Raises:
        ArtifactError: one of the files cannot be read.
    """
    if "" in keep:
        return None
    model, source = read_in_place(lowered), read_in_place(plain)
    weights = stored_weights(source, plain.parent) | stored_weights(model, lowered.parent)
    made = {name: n for n in source.graph.node if n.name in keep for name in n.output if name}
    if not _exchange(model, made):
        return None
    held = {tensor.name for tensor in model.graph.initializer}
    read = {name for node in made.values() for name in node.input}
    missing = [t for t in source.graph.initializer if t.name in read and t.name not in held]
    model.graph.initializer.extend(missing)
    pruned = ir.serde.deserialize_model(model)
    RemoveUnusedNodesPass()(pruned)
    result = ir.serde.serialize_model(pruned)
    held = {tensor.name for tensor in result.graph.initializer}
    return result, {name: weight for name, weight in weights.items() if name in held}


def _exchange(model: onnx.ModelProto, made: Mapping[str, onnx.NodeProto]) -> bool:
    """Let the nodes of ``made`` compute its values; what computed them goes."""
    nodes, placed = list(model.graph.node), set[str]()
    del model.graph.node[:]
    for node in nodes:
        new = {made[name].name: made[name] for name in node.output if name in made}
        if not new:
            model.graph.node.append(node)
        # An LSTM's values come from one node in both; a node in pieces gives each of them once.
        model.graph.node.extend(held for name, held in new.items() if name not in placed)
        placed |= new.keys()
    given = {name for node in model.graph.node for name in node.output}
    return made.keys() <= given
