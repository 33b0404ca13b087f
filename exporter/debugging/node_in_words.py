"""A node of an ONNX file in words: what it computes, from what, with which weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from exporter.graph.attributes import attribute_values
from exporter.graph.index import GraphIndex
from exporter.graph.node_origin import module_of

_FEW = 8


def node_in_words(graph: GraphIndex, name: str, values: Mapping[str, np.ndarray]) -> str:
    """One sentence about the node that computes ``name``.

    Args:
        values: what is known of values, for their shapes.
    """
    node = graph.nodes[graph.producer[name]]
    module = module_of(node)
    where = f" in {module}" if module else ""
    reads = ", ".join(_operand(graph, read, values) for read in node.input if read)
    opset = next((o.version for o in graph.model.opset_import if o.domain == node.domain), 0)
    attributes = {key: value.text for key, value in sorted(attribute_values(node, opset).items())}
    said = (
        f"; {', '.join(f'{key} {text}' for key, text in attributes.items())}" if attributes else ""
    )
    domain = f"{node.domain}::" if node.domain else ""
    gives = f"'{name}'{_shape(values.get(name))}"
    return f"{domain}{node.op_type}{where} computes {gives} from {reads or 'nothing'}{said}"


def _operand(graph: GraphIndex, name: str, values: Mapping[str, np.ndarray]) -> str:
    if name not in graph.initializers:
        kind = "the input " if name in graph.inputs else ""
        return f"{kind}'{name}'{_shape(values.get(name))}"
    tensor = graph.initializers[name]
    array = graph.array(name)
    small = array.size <= _FEW and tensor.data_type != onnx.TensorProto.STRING
    text = f" {array.tolist()}" if small else f", largest {np.abs(array).max():.4g}"
    return f"the weight '{name}' {array.dtype.name} {list(array.shape)}{text}"


def _shape(array: np.ndarray | None) -> str:
    return "" if array is None else f" {array.dtype.name} {list(array.shape)}"
