"""Attributes and input names of ONNX nodes, with the operator's own defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import onnx
from google.protobuf.message import Message
from onnx import defs, numpy_helper

_Proto = TypeVar("_Proto", bound=Message)


@dataclass(frozen=True, slots=True)
class AttributeValue:
    """One attribute: ``bits`` decide whether two are equal, ``text`` is for people."""

    bits: bytes
    text: str


def int_attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An attribute that is a whole number."""
    return next((item.i for item in node.attribute if item.name == name), default)


def attribute_values(node: onnx.NodeProto, version: int) -> dict[str, AttributeValue]:
    """Attributes of a node by name; those left to their default are there too.

    Args:
        node: the node.
        version: opset version of the node's domain; 0 when the file does not import it.
    """
    values = dict(_defaults(node.op_type, node.domain, version))
    values.update((a.name, _value(a)) for a in node.attribute)
    return values


def input_label(node: onnx.NodeProto, slot: int, version: int) -> str:
    """``input 2 (B)``: place, counted from 0, and the operator's own name for it."""
    names = _input_names(node.op_type, node.domain, version)
    # The last formal input of Concat, Max, ... takes all that follow.
    formal = names[min(slot, len(names) - 1)] if names else ""
    return f"input {slot} ({formal})" if formal else f"input {slot}"


def plain_bytes(message: Message) -> bytes:
    """Bytes of a graph or function without names of nodes, doc strings, metadata and shapes."""
    bare = type(message)()
    bare.CopyFrom(message)
    _strip(bare)
    return bare.SerializeToString(deterministic=True)


_DECORATION = ("doc_string", "metadata_props", "value_info")


def _strip(message: Message) -> None:
    for key in _DECORATION:
        if key in message.DESCRIPTOR.fields_by_name:
            message.ClearField(key)
    if isinstance(message, (onnx.NodeProto, onnx.GraphProto)):
        message.ClearField("name")
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for part in value if isinstance(value, _sequence()) else [value]:
                _strip(part)


@cache
def _sequence() -> type:
    """The class of repeated message fields, which protobuf does not export."""
    return type(onnx.GraphProto().node)


def _value(attribute: onnx.AttributeProto) -> AttributeValue:
    kind = attribute.type
    if kind == onnx.AttributeProto.TENSOR:
        if attribute.t.data_location == onnx.TensorProto.EXTERNAL:
            return AttributeValue(plain_bytes(attribute.t), "a tensor in another file")
        array = numpy_helper.to_array(attribute.t)
        head = f"{array.dtype.name} {list(array.shape)}"
        values = str(array.tolist()) if array.size <= 8 else "..."
        return AttributeValue(head.encode() + array.tobytes(), f"{head} {values}")
    if kind == onnx.AttributeProto.GRAPH:
        return AttributeValue(plain_bytes(attribute.g), f"a graph of {len(attribute.g.node)} nodes")
    bare = onnx.AttributeProto()
    bare.CopyFrom(attribute)
    bare.ClearField("doc_string")
    return AttributeValue(bare.SerializeToString(deterministic=True), _text(attribute))


def _text(attribute: onnx.AttributeProto) -> str:
    if attribute.ref_attr_name:
        return f"the function's '{attribute.ref_attr_name}'"
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        # float32 is stored: nine digits tell any two apart, and 1e-05 does not read 9.99999e-06.
        return _short_float(value)
    if isinstance(value, (list, tuple)) or hasattr(value, "__len__"):
        items = [i.decode("utf-8", "replace") if isinstance(i, bytes) else i for i in value]
        texts = [_short_float(i) if isinstance(i, float) else str(i) for i in items]
        return f"[{', '.join(texts)}]"
    return str(value)


def _short_float(value: float) -> str:
    packed = onnx.helper.make_attribute("a", value).f
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if onnx.helper.make_attribute("a", float(text)).f == packed:
            return text
    return repr(value)


@cache
def _defaults(op: str, domain: str, version: int) -> Mapping[str, AttributeValue]:
    schema = _schema(op, domain, version)
    if schema is None:
        return {}
    return {
        name: _value(formal.default_value)
        for name, formal in schema.attributes.items()
        if formal.default_value.type != onnx.AttributeProto.UNDEFINED
    }


@cache
def _input_names(op: str, domain: str, version: int) -> tuple[str, ...]:
    schema = _schema(op, domain, version)
    return () if schema is None else tuple(formal.name for formal in schema.inputs)


def _schema(op: str, domain: str, version: int) -> defs.OpSchema | None:
    """The operator's schema; None for operators that onnx itself does not define."""
    if not version or not defs.has(op, version, domain):
        return None
    return defs.get_schema(op, version, domain)
