"""A file in a lower precision with nodes of the float32 file in place of its own.

    lowered   x -> [DynamicQuantizeLinear] -> [MatMulInteger] -> [Cast] -> [Mul] -> y -> ...
    plain     x -> [MatMul, weight] ----------------------------------------------> y -> ...

    lowered   x16 -> [A] -> y16 -> [B] -> z16 -> [C] -> ...
    plain     x16 -> [Cast] -> [A] -> y -> [B] -> z -> [Cast] -> z16 -> [C] -> ...

An engine that leaves a node in float32 leaves the names of what it reads and gives. So the file
that it would write can be put together of both, and nothing is rounded twice. In float16 the
engines cast in front of every node that stays, and behind it: what one hands to the next is
rounded, and what has no room there is lost. Here it stays in float32; casts stand at the ends.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from exporter.graph.onnx_file import read_in_place
from exporter.graph.weights_on_disk import StoredWeight, stored_weights

_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def put_back(
    lowered: Path, plain: Path, keep: Collection[str]
) -> tuple[onnx.ModelProto, dict[str, StoredWeight]] | None:
    """Put nodes of ``plain`` back into ``lowered``.

    Args:
        lowered: ``plain`` as an engine has lowered it; both were read before.
        keep: names of nodes of ``plain``.

    Returns:
        the graph, and where its large weights lie, for ``store_shipped``; None where a node has no
        place in ``lowered``.

    Raises:
        ArtifactError: one of the files cannot be read.
    """
    model, source = (read_in_place(path, again=True) for path in (lowered, plain))
    low, float32 = ir.serde.deserialize_model(model), ir.serde.deserialize_model(source)
    puts = _Puts(low.graph)
    nodes = puts.tied([node for node in float32.graph if node.name in keep])
    if "" in keep or any(a.type in _GRAPHS for n in nodes for a in n.attributes.values()):
        return None
    for node in float32.graph:
        if node in nodes and not puts.put(node):
            return None
    low.graph.sort()
    RemoveUnusedNodesPass()(low)
    weights = stored_weights(model, lowered.parent)
    weights = {puts.renamed.get(name, name): weight for name, weight in weights.items()}
    theirs = stored_weights(source, plain.parent)
    weights |= {name: theirs[name] for name in puts.constants if name in theirs}
    held = low.graph.initializers
    return ir.serde.serialize_model(low), {n: w for n, w in weights.items() if n in held}


class _Puts:
    """The graph of a lowered file as it is changed.

    Attributes:
        renamed: lowered constants, by their old names, that gave them to those of float32.
        constants: names of constants that came from the float32 file.
    """

    def __init__(self, graph: ir.Graph):
        self.renamed: dict[str, str] = {}
        self.constants: list[str] = []
        self._graph = graph
        values = [
            *graph.inputs,
            *graph.initializers.values(),
            *(v for n in graph for v in n.outputs),
        ]
        self._values = {value.name: value for value in values if value.name}
        self._nodes = {node.name: node for node in graph if node.name}
        self._made: dict[str, ir.Value] = {}

    def tied(self, nodes: list[ir.Node]) -> set[ir.Node]:
        """The nodes, and those that hand each other what no cast takes."""
        tied, new = set(nodes), list(nodes)
        while new:
            node = new.pop()
            listed = [v for v in (*node.inputs, *node.outputs) if v is not None and self._list(v)]
            near = {n for v in listed for n in (v.producer(), *v.consumers()) if n is not None}
            new += near - tied
            tied |= near
        return tied

    def _list(self, value: ir.Value) -> bool:
        """Whether a value is a list of tensors in float16.

        A file says the types of tensors alone: it may be one where nothing is said.
        """
        known = isinstance(value.type, ir.TensorType)
        return not known and any(other.dtype in _NARROW for other in self._theirs(value))

    def put(self, node: ir.Node) -> bool:
        """Let a node of the float32 file compute its values; False where it has no place."""
        inputs = [None if value is None else self._read(value) for value in node.inputs]
        if any((a is None) != (b is None) for a, b in zip(inputs, node.inputs, strict=True)):
            return False
        old = [self._theirs(value) for value in node.outputs]
        if not any(old):
            return False
        outputs = [ir.Value(type=value.type, shape=value.shape) for value in node.outputs]
        self._graph.append(
            ir.Node(
                node.domain,
                node.op_type,
                inputs,
                node.attributes.values(),
                overload=node.overload,
                outputs=outputs,
                version=node.version,
                name=node.name,
                metadata_props=dict(node.metadata_props),
            )
        )
        for value, output, theirs in zip(node.outputs, outputs, old, strict=True):
            name = value.name or ""
            for other in theirs:
                self._give_up(other, name)
            output.name = name
            self._made[name] = output
            for other in theirs:
                other.replace_all_uses_with(self._as(output, other), replace_graph_outputs=True)
        return True

    def _read(self, value: ir.Value) -> ir.Value | None:
        """A value of the float32 file, of its own type."""
        name = value.name or ""
        if name not in self._made:
            theirs = self._theirs(value)
            same = [other for other in theirs if _same(other, value)]
            if same:
                self._made[name] = same[0]
            elif _tensor(value) is not None:
                self._made[name] = self._constant(value, theirs)
            elif theirs:
                self._made[name] = self._as(theirs[0], value)
        return self._made.get(name)

    def _theirs(self, value: ir.Value) -> list[ir.Value]:
        """What is this value in the lowered file: by its name, and where the same node gives it."""
        producer = value.producer()
        node = None if producer is None else self._nodes.get(producer.name or "")
        place = value.index()
        given = node.outputs[place : place + 1] if node is not None and place is not None else ()
        known = [self._values[value.name]] if value.name in self._values else []
        return list(dict.fromkeys([*known, *given]))

    def _as(self, value: ir.Value, other: ir.Value) -> ir.Value:
        """A value in the type of another one."""
        if _same(value, other) or other.dtype is None:
            return value
        cast = ir.Value(
            name=self._free(f"{value.name}_{str(other.dtype).lower()}"),
            type=ir.TensorType(other.dtype),
            shape=value.shape,
        )
        to = ir.AttrInt64("to", int(other.dtype))
        self._graph.append(ir.Node("", "Cast", [value], [to], outputs=[cast], name=cast.name))
        return cast

    def _constant(self, value: ir.Value, theirs: list[ir.Value]) -> ir.Value:
        name = value.name or ""
        for other in theirs:
            self._give_up(other, name)
        made = ir.Value(name=name, type=value.type, shape=value.shape, const_value=_tensor(value))
        self._graph.register_initializer(made)
        self.constants.append(name)
        return made

    def _give_up(self, value: ir.Value, name: str) -> None:
        """Let a value of the lowered file have another name than this."""
        if value.name != name:
            return
        value.name = self._free(f"{name}_lowered")
        if value.is_initializer():
            self.renamed[name] = value.name

    def _free(self, name: str) -> str:
        taken = {value.name for value in self._graph.initializers.values()}
        while name in self._values or name in taken:
            name = f"{name}_"
        return name


def _tensor(value: ir.Value) -> ir.TensorProtocol | None:
    """What a constant of the file holds; None of what is computed."""
    producer = value.producer()
    if producer is None:
        return value.const_value
    if producer.op_type != "Constant" or "value" not in producer.attributes:
        return None
    return producer.attributes["value"].as_tensor()


def _same(value: ir.Value, other: ir.Value) -> bool:
    """Whether two values have one type; where it is not known, an engine has left it."""
    return value.dtype is None or other.dtype is None or value.dtype == other.dtype
