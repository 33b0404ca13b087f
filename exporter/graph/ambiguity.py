"""What in an ONNX file can be read in two ways; every reader refuses such a file.

onnxruntime takes the last of two initialisers of one name, another program the first. Whoever
compares numbers would judge one model while another one is shipped. ONNX asks for one origin of
every value (https://onnx.ai/onnx/repo-docs/IR.html, "names within a graph"), so no healthy file is
refused here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from pathlib import Path

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from exporter.core.artifact import CERTIFICATE_PREFIX
from exporter.core.errors import ArtifactError
from exporter.core.operators import is_constant

_SHOWN = 3
_TYPED = (
    *("float_data", "int32_data", "string_data"),
    *("int64_data", "double_data", "uint64_data"),
)
_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
_TEXT_OR_MORE = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE)
_OFFICIAL = ("", "ai.onnx")
_CONSTANTS = {
    "value": onnx.AttributeProto.TENSOR,
    "sparse_value": onnx.AttributeProto.SPARSE_TENSOR,
    "value_float": onnx.AttributeProto.FLOAT,
    "value_floats": onnx.AttributeProto.FLOATS,
    "value_int": onnx.AttributeProto.INT,
    "value_ints": onnx.AttributeProto.INTS,
    "value_string": onnx.AttributeProto.STRING,
    "value_strings": onnx.AttributeProto.STRINGS,
}
"""Attributes of Constant, and their types."""
_REMEDY = (
    "in ONNX every name has one origin: export the file again, or rename what is there twice"
    " (onnx.checker.check_model looks for the same)"
)


def refuse_ambiguous(
    path: Path,
    model: onnx.ModelProto,
    *,
    initializers: Sequence[str] | None = None,
    more: Iterable[str] = (),
) -> None:
    """Refuse a file that two programs may read differently.

    Args:
        model: the file; of initialisers only names and places of values are looked at.
        initializers: their names, when ``model`` was read without them.
        more: what else was found while the bytes were read.

    Raises:
        ArtifactError: names what stands there twice; exit code 2.
    """
    problems = list(dict.fromkeys([*more, *_problems(model, initializers)]))
    if not problems:
        return
    left = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    raise ArtifactError(
        f"the file has no single reading: {'; '.join(problems[:_SHOWN])}{left}",
        where=str(path),
        remedy=_REMEDY,
    )


def stored_twice(tensor: onnx.TensorProto, *, raw: bool) -> str:
    """Says so when the values of a tensor stand in two places; "" for a healthy one.

    Args:
        raw: it has raw bytes, whether ``tensor`` still holds them or not.
    """
    places = [name for name in _TYPED if len(getattr(tensor, name))]
    places += ["raw_data"] if raw else []
    places += ["external_data"] if tensor.data_location == onnx.TensorProto.EXTERNAL else []
    if len(places) > 1:
        return f"the values of '{tensor.name}' stand in {' and in '.join(places)}"
    again = _again(entry.key for entry in tensor.external_data)
    return f"'{tensor.name}' says twice: {', '.join(again)} of its external data" if again else ""


def _problems(model: onnx.ModelProto, initializers: Sequence[str] | None) -> Iterator[str]:
    yield from _no_text(model)
    metadata = [str(entry.key) for entry in model.metadata_props]
    # A certificate is judged as a whole: what stands in it twice is a broken seal.
    yield from _named(
        "metadata entry", (key for key in metadata if not key.startswith(CERTIFICATE_PREFIX))
    )
    yield from _opsets(model.opset_import, "")
    yield from _functions(model)
    yield from _graph(model.graph, initializers)


def _no_text(model: onnx.ModelProto) -> Iterator[str]:
    """Texts that are bytes: protobuf gives them so where they are no UTF-8."""
    for text in _texts(model):
        if not isinstance(text, str):
            yield f"the text {bytes(text)[:40]!r} is none in UTF-8"


def _texts(message: Message) -> Iterator[str | bytes]:
    """Every text of a model that somebody reads; of tensors the name, for values may be large."""
    for field, value in message.ListFields():
        if field.type not in _TEXT_OR_MORE or field.name == "doc_string":
            continue
        for part in (value,) if isinstance(value, str | bytes | Message) else value:
            if isinstance(part, onnx.TensorProto):
                yield part.name
            elif isinstance(part, Message):
                yield from _texts(part)
            else:
                yield part


def _named(kind: str, names: Iterable[str]) -> Iterator[str]:
    for name in _again(names):
        yield f"{kind} '{name}' stands there twice"


def _again(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _opsets(imports: Iterable[onnx.OperatorSetIdProto], where: str) -> Iterator[str]:
    seen: dict[str, set[int]] = {}
    for entry in imports:
        domain = "" if entry.domain in _OFFICIAL else entry.domain
        seen.setdefault(domain, set()).add(entry.version)
    for domain, versions in seen.items():
        if len(versions) > 1:
            shown = " and ".join(map(str, sorted(versions)))
            yield f"opset {shown} of '{domain or 'ai.onnx'}' at once{where}"


def _functions(model: onnx.ModelProto) -> Iterator[str]:
    calls: dict[tuple[str, str], set[tuple[str, str]]] = {}
    yield from _named("function", ("::".join(_key(function)) for function in model.functions))
    for function in model.functions:
        where = f" in function '{function.name}'"
        if function.domain in _OFFICIAL and onnx.defs.has(function.name):
            yield f"function '{function.name}' has the name of an operator of ONNX"
        yield from (f"{text}{where}" for text in _named("input", function.input))
        yield from (f"{text}{where}" for text in _named("output", function.output))
        attributes = [
            *function.attribute,
            *(attribute.name for attribute in function.attribute_proto),
        ]
        yield from (f"{text}{where}" for text in _named("attribute", attributes))
        yield from _opsets(function.opset_import, where)
        body = _nodes(function.node, set(function.input), set(), set())
        yield from (f"{text}{where}" for text in body)
        called = calls.setdefault((function.domain, function.name), set())
        called |= {(node.domain, node.op_type) for node in _all_nodes(function.node)}
    for key in calls:
        if key in _reached(calls, key):
            yield f"function '{key[1]}' calls itself, so it never ends"


def _key(function: onnx.FunctionProto) -> tuple[str, ...]:
    return tuple(filter(None, (function.domain, function.name, function.overload)))


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from _all_nodes(graph.node)


def _reached(
    calls: dict[tuple[str, str], set[tuple[str, str]]], start: tuple[str, str]
) -> set[tuple[str, str]]:
    reached: set[tuple[str, str]] = set()
    waiting = [start]
    while waiting:
        new = calls.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    return reached


def _graph(
    graph: onnx.GraphProto,
    initializers: Sequence[str] | None = None,
    outer: Set[str] = frozenset(),
) -> Iterator[str]:
    inputs = [value.name for value in graph.input]
    stored = list(
        initializers
        if initializers is not None
        else (stored_tensor.name for stored_tensor in graph.initializer)
    )
    stored += [stored_tensor.values.name for stored_tensor in graph.sparse_initializer]
    yield from _named("input", inputs)
    yield from _named("initializer", stored)
    yield from _named("output", (value.name for value in graph.output))
    for tensor in graph.initializer:
        if text := stored_twice(tensor, raw=tensor.HasField("raw_data")):
            yield text
    for sparse in graph.sparse_initializer:
        for tensor in (sparse.values, sparse.indices):
            if text := stored_twice(tensor, raw=tensor.HasField("raw_data")):
                yield text
    yield from _hidden(stored, outer, "initializer")
    known = {*inputs, *stored}
    yield from _nodes(graph.node, known, set(stored), outer)


def _hidden(names: Iterable[str], outer: Set[str], kind: str) -> Iterator[str]:
    for name in names:
        if name in outer:
            yield f"{kind} '{name}' of a subgraph has the name of a value around it"


def _nodes(
    nodes: Collection[onnx.NodeProto], known: set[str], stored: Set[str], outer: Set[str]
) -> Iterator[str]:
    """Names that nodes read and make, in order; those that are made are added to ``known``."""
    given = frozenset(known)
    every = {name for node in nodes for name in node.output if name}
    made: set[str] = set()
    for node in nodes:
        label = f"{node.op_type} '{node.name or next(iter(node.output), '')}'"
        yield from _attributes(node, label)
        for name in node.input:
            if name in every and name not in known and name not in outer:
                yield f"{label} reads '{name}' before it is made"
        for graph in _subgraphs(node):
            yield from _graph(graph, outer=outer | known)
        for name in filter(None, node.output):
            if name in made:
                yield f"value '{name}' is made by two nodes"
            elif name in stored:
                yield f"'{name}' is an initializer, and made by {label}"
            elif name in given:
                yield f"'{name}' is an input, and made by {label}"
            made.add(name)
            known.add(name)
        yield from _hidden(node.output, outer - {""}, "value")


def _attributes(node: onnx.NodeProto, label: str) -> Iterator[str]:
    names = [attribute.name for attribute in node.attribute]
    for name in _again(names):
        yield f"{label} has the attribute '{name}' twice"
    if not is_constant(node):
        return
    if len(node.attribute) != 1 or len(node.output) != 1:
        yield f"{label} holds {len(names)} values for {len(node.output)} outputs, not one for one"
    for attribute in node.attribute:
        if attribute.type != _CONSTANTS.get(attribute.name):
            yield f"{label} holds its value as '{attribute.name}', which is no form of a constant"
        tensor = attribute.t
        if attribute.type == onnx.AttributeProto.TENSOR and (
            text := stored_twice(tensor, raw=tensor.HasField("raw_data"))
        ):
            yield f"{label}: {text}"


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type in _GRAPHS:
            yield from [attribute.g] if attribute.HasField("g") else []
            yield from attribute.graphs
