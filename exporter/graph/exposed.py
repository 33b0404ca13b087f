"""Values that a file holds in integers, brought to light where it gives them in float as well.

A file of QLinear operators hands integers on, and gives floats only to those that want them:

    q -> DequantizeLinear -> v -> LayerNormalization ...       q -> QLinearAdd ...

What the QLinearAdd reads is the value ``v``, too. Here it reads it:

    q -> DequantizeLinear -> v -> QuantizeLinear -> q' -> QLinearAdd ...

which gives the same integers, since v lies on the grid, and can be fed.
"""

from __future__ import annotations

import onnx

from exporter.graph.grids import result_grid, result_names
from exporter.graph.index import GraphIndex, with_nodes

_SUFFIX = "::again"
_REAL = "::real"


def expose_quantised(graph: GraphIndex) -> GraphIndex:
    """The graph with every integer value read through the float that the file gives of it.

    The same object where there is nothing of that kind.
    """
    floats: dict[str, onnx.NodeProto] = {}
    for node in graph.nodes:
        source = node.input[0] if node.input else ""
        if node.op_type == "DequantizeLinear" and source in graph.producer:
            others = [at for at in graph.consumers[source] if graph.nodes[at] is not node]
            if others and source not in floats and source not in graph.outputs:
                floats[source] = node
    if not floats:
        return graph
    nodes: list[onnx.NodeProto] = []
    moved = {id(node) for node in floats.values()}
    for node in graph.nodes:
        if id(node) in moved:
            continue
        nodes.append(_reading(node, floats))
        for name in node.output:
            if name in floats:
                nodes += _pair(floats[name])
    return with_nodes(graph, tuple(nodes))


def expose_stored(graph: GraphIndex) -> GraphIndex:
    """The same, where the file gives no float of an integer value: it is given here.

    Only of what QLinear operators compute, on a constant grid.
    """
    given = {n.input[0] for n in graph.nodes if n.op_type == "DequantizeLinear"}
    nodes: list[onnx.NodeProto] = []
    for at, node in enumerate(graph.nodes):
        nodes.append(node)
        name = node.output[0] if node.output else ""
        grid = result_names(node)
        if grid is None or name in given or not graph.consumers.get(name):
            continue
        if result_grid(graph, at) is not None:
            real = f"{name}{_REAL}"
            reads = [name, *grid]
            nodes.append(onnx.helper.make_node("DequantizeLinear", reads, [real], name=real))
    return expose_quantised(with_nodes(graph, tuple(nodes)))


def _reading(node: onnx.NodeProto, floats: dict[str, onnx.NodeProto]) -> onnx.NodeProto:
    if not any(name in floats for name in node.input):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for place, name in enumerate(node.input):
        if name in floats:
            copy.input[place] = name + _SUFFIX
    return copy


def _pair(dequantise: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The DequantizeLinear, and what takes its float back to the same integers."""
    # Nodes need no name, but no two may have the same.
    name = f"{dequantise.name or dequantise.output[0]}{_SUFFIX}"
    back = onnx.NodeProto(op_type="QuantizeLinear", domain=dequantise.domain, name=name)
    back.input.extend([dequantise.output[0], *dequantise.input[1:]])
    back.output.append(dequantise.input[0] + _SUFFIX)
    back.attribute.extend(item for item in dequantise.attribute if item.name == "axis")
    return [dequantise, back]
