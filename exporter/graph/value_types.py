"""Element types of the values of a graph, by inference, without its weights."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from exporter.core.children import watched_step
from exporter.core.errors import ArtifactError
from exporter.core.reading import reason
from exporter.graph.index import GraphIndex

_SMALL = 4096
"""Bytes up to which a constant's value is given to the inference."""


def value_types(graph: GraphIndex) -> dict[str, int]:
    """Element type (onnx's number) of every value that is known.

    What inference does not know (operators of another domain) gets the type of its first floating
    input; contrib operators that quantise give what they compute with.
    """
    types = {name: tensor.data_type for name, tensor in graph.initializers.items()}
    types |= inferred_types(graph)
    for node in graph.nodes:
        if not node.output or types.get(node.output[0]):
            continue
        floats = (types[name] for name in node.input if types.get(name) in _FLOATING)
        kind = next(floats, 0)
        if kind:
            types[node.output[0]] = kind
    return types


_FLOATING = frozenset(
    {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
)


def inferred_types(graph: GraphIndex) -> dict[str, int]:
    """Element type (onnx's number) of every value that inference knows."""
    slim = onnx.ModelProto(ir_version=graph.model.ir_version)
    slim.opset_import.extend(graph.model.opset_import)
    slim.functions.extend(graph.model.functions)
    slim.graph.name = "types"
    slim.graph.input.extend(graph.model.graph.input)
    slim.graph.output.extend(graph.model.graph.output)
    for name, tensor in graph.initializers.items():
        if tensor.ByteSize() < _SMALL and tensor.data_location != TensorProto.EXTERNAL:
            slim.graph.initializer.add().CopyFrom(tensor)
        else:
            slim.graph.input.append(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            )
    for node in graph.nodes:
        slim.graph.node.add().CopyFrom(node)
    try:
        # Functions within functions may take for ever.
        with watched_step():
            known = onnx.shape_inference.infer_shapes(slim).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ArtifactError(
            f"the types of its values cannot be inferred ({reason(error)})",
            remedy="export the file again; onnx.checker.check_model(full_check=True) says more",
        ) from error
    values = [*known.value_info, *known.input, *known.output]
    return {value.name: value.type.tensor_type.elem_type for value in values}
