"""A piece of an ONNX graph in float64: the same nodes, float32 replaced by float64 everywhere.

What the file does stays: its own initialisers, its attributes, its casts to float16 or to integers.
Only float32 becomes float64, in initialisers, inputs, casts, constants and attributes, so that
nothing but the rounding of the arithmetic changes. Where the standard knows an operator for float32
alone (the scales of a Resize), a cast is put in front of it and another behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.core.errors import ArtifactError
from exporter.core.operators import is_constant

_FLOAT, _DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
_FLOAT_TYPE, _DOUBLE_TYPE = "tensor(float)", "tensor(double)"
# Attributes that name the dtype of a result, and whether float32 is meant where they are missing.
_NAMED_DTYPES: Mapping[str, tuple[str, bool]] = {
    "Cast": ("to", False),
    "EyeLike": ("dtype", False),
    "Bernoulli": ("dtype", False),
    "RandomNormal": ("dtype", True),
    "RandomUniform": ("dtype", True),
    "RandomNormalLike": ("dtype", False),
    "RandomUniformLike": ("dtype", False),
    "SequenceEmpty": ("dtype", True),
    "HannWindow": ("output_datatype", True),
    "HammingWindow": ("output_datatype", True),
    "BlackmanWindow": ("output_datatype", True),
    "MelWeightMatrix": ("output_datatype", True),
}
_IR_VERSION = 10


def double_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a whole small model in which float32 is float64.

    Args:
        model: with its weights inside; types of outputs need not be known.

    Raises:
        ArtifactError: it holds an operator that the standard does not know.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.ir_version = min(made.ir_version, _IR_VERSION)
    versions = {item.domain: item.version for item in made.opset_import}
    own = {(item.domain, item.name) for item in made.functions}
    _widen_graph(made.graph, versions, own)
    for function in made.functions:
        inside = {item.domain: item.version for item in function.opset_import} or versions
        nodes = _widened(function.node, inside, own)
        del function.node[:]
        function.node.extend(nodes)
        del function.value_info[:]
    return made


def _widen_graph(
    graph: onnx.GraphProto, versions: Mapping[str, int], own: set[tuple[str, str]]
) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == _FLOAT:
            value.type.tensor_type.elem_type = _DOUBLE
    del graph.value_info[:]
    nodes = _widened(graph.node, versions, own)
    del graph.node[:]
    graph.node.extend(nodes)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == _FLOAT:
        wide = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _widened(
    nodes: Iterable[onnx.NodeProto], versions: Mapping[str, int], own: set[tuple[str, str]]
) -> list[onnx.NodeProto]:
    made: list[onnx.NodeProto] = []
    for number, node in enumerate(nodes):
        wide = onnx.NodeProto()
        wide.CopyFrom(node)
        _widen_attributes(wide, versions, own)
        made += _between_casts(wide, f"{number}_{len(made)}", versions, own)
    return made


def _widen_attributes(
    node: onnx.NodeProto, versions: Mapping[str, int], own: set[tuple[str, str]]
) -> None:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            _widen_graph(graph, versions, own)
    name, default = _NAMED_DTYPES.get(node.op_type, ("", False))
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if name in attributes and attributes[name].i == _FLOAT:
        attributes[name].i = _DOUBLE
    elif name and default and name not in attributes:
        node.attribute.append(helper.make_attribute(name, _DOUBLE))
    if node.op_type == "ConstantOfShape" and "value" not in attributes:
        zero = helper.make_tensor("value", _DOUBLE, [1], [0.0])
        node.attribute.append(helper.make_attribute("value", zero))
    if is_constant(node):
        for name in ("value_float", "value_floats"):
            if name in attributes:
                value = np.array(helper.get_attribute_value(attributes[name]), np.float64)
                del node.attribute[:]
                node.attribute.append(
                    helper.make_attribute("value", numpy_helper.from_array(value))
                )


def _between_casts(
    node: onnx.NodeProto, key: str, versions: Mapping[str, int], own: set[tuple[str, str]]
) -> list[onnx.NodeProto]:
    """The node, with casts where the standard has it for float32 and not for float64."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if (node.domain, node.op_type) in own:
        return [node]
    try:
        version = versions.get(domain, versions.get(node.domain, 1))
        schema = onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError as error:
        raise ArtifactError(f"operator {domain}::{node.op_type} is not of the standard") from error
    before, after = [], []
    for slot, name in enumerate(node.input):
        if name and _float_only(schema.inputs, slot):
            cast = f"{name}::float::{key}_{slot}"
            before.append(helper.make_node("Cast", [name], [cast], to=_FLOAT))
            node.input[slot] = cast
    for slot, name in enumerate(node.output):
        if name and before and _float_only(schema.outputs, slot):
            cast = f"{name}::float::{key}"
            after.append(helper.make_node("Cast", [cast], [name], to=_DOUBLE))
            node.output[slot] = cast
    return [*before, node, *after]


def _float_only(formal: Iterable, slot: int) -> bool:
    formals = list(formal)
    if not formals:
        return False
    types = formals[min(slot, len(formals) - 1)].types
    return _FLOAT_TYPE in types and _DOUBLE_TYPE not in types
