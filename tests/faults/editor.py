"""Edit an exported graph the way a careless tool would: through value names, never positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from exporter.graph.program import Program


class Editor:
    """A copy of a model, and the look-ups that a fault needs.

    Args:
        model: the clean model; it stays as it is.
        program: the captured program, which knows what module and op a value belongs to.
    """

    def __init__(self, model: onnx.ModelProto, program: Program) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self.program = program

    def tap(self, module: str, op: str, nth: int = 0) -> str:
        """ONNX name of the tensor that the nth op of a kind computes in a module."""
        return self._value("tensor", module, op, nth)

    def size(self, module: str, op: str, nth: int = 0) -> str:
        """The same for the nth integer that is computed from sizes."""
        return self._value("size", module, op, nth)

    def _value(self, kind: str, module: str, op: str, nth: int) -> str:
        found = [
            self.program.onnx_name(held.name)
            for held in self.program.ops
            if (held.module, held.kind) == (module, kind) and op == held.target.split(".")[1]
        ]
        alive = {name for node in self.graph.node for name in node.output}
        found = [name for name in found if name in alive]
        if nth >= len(found):
            raise LookupError(f"'{module}' has {len(found)} values of '{op}' in the graph")
        return found[nth]

    def producer(self, value: str) -> onnx.NodeProto:
        """The node that computes ``value``."""
        for node in self.graph.node:
            if value in node.output:
                return node
        raise LookupError(f"no node computes '{value}'")

    def node(self, module: str, op: str, nth: int = 0) -> onnx.NodeProto:
        """The node that computes a tap, see :meth:`tap`."""
        return self.producer(self.tap(module, op, nth))

    def behind(self, value: str, *op_types: str) -> onnx.NodeProto:
        """The nearest node of one of these types among those that ``value`` is computed from."""
        wave = [value]
        seen: set[str] = set()
        while wave:
            nodes = [n for n in self.graph.node if any(name in wave for name in n.output)]
            for node in nodes:
                if node.op_type in op_types:
                    return node
            seen.update(wave)
            wave = [name for node in nodes for name in node.input if name and name not in seen]
        raise LookupError(f"'{value}' is not computed from any {' or '.join(op_types)}")

    def linear(self, module: str) -> onnx.NodeProto:
        """The product of a linear layer: x, W as [in, out]."""
        return self.behind(self.tap(module, "linear"), "MatMul", "Gemm")

    def users(self, value: str) -> list[onnx.NodeProto]:
        """The nodes that read ``value``."""
        return [node for node in self.graph.node if value in node.input]

    def array(self, name: str) -> np.ndarray:
        """The values of an initialiser or a Constant node."""
        for node in self.graph.node:
            if node.op_type == "Constant" and name in node.output:
                return numpy_helper.to_array(node.attribute[0].t)
        return numpy_helper.to_array(self._tensor(name))

    def store(self, name: str, values: npt.ArrayLike) -> None:
        """Overwrite an initialiser; its dtype stays."""
        tensor = self._tensor(name)
        kept = np.ascontiguousarray(values, dtype=numpy_helper.to_array(tensor).dtype)
        tensor.CopyFrom(numpy_helper.from_array(kept, name))

    def constant(self, values: npt.ArrayLike) -> str:
        """A new initialiser; returns its name."""
        name = f"tampered_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def give(self, node: onnx.NodeProto, slot: int, values: npt.ArrayLike) -> None:
        """Let one input of one node read a constant of its own."""
        node.input[slot] = self.constant(values)

    def own(self, node: onnx.NodeProto, slot: int) -> np.ndarray:
        """The values of an initialiser that a node reads."""
        return self.array(node.input[slot])

    def insert(
        self, node: onnx.NodeProto, slot: int, op_type: str, *more: npt.ArrayLike, **attributes: Any
    ) -> None:
        """Put an operator between an input of a node and the node."""
        made = self.add_before(
            node, op_type, [node.input[slot], *map(self.constant, more)], **attributes
        )
        node.input[slot] = made

    def add_before(
        self, node: onnx.NodeProto, op_type: str, inputs: list[str], **attributes: Any
    ) -> str:
        """Put an operator in front of a node; returns the name of its result."""
        name = f"tampered_value_{len(self.graph.node)}"
        made = helper.make_node(op_type, inputs, [name], name=f"node_{name}", **attributes)
        self.graph.node.insert(list(self.graph.node).index(node), made)
        return name

    def add_behind(
        self, node: onnx.NodeProto, op_type: str, result: str, **attributes: Any
    ) -> None:
        """Put an operator behind a node's first result."""
        made = helper.make_node(
            op_type, [node.output[0]], [result], name=f"node_{result}", **attributes
        )
        self.graph.node.insert(list(self.graph.node).index(node) + 1, made)

    def replace(self, node: onnx.NodeProto, op_type: str, *inputs: str, **attributes: Any) -> None:
        """Turn a node into another operator; its result keeps its name."""
        made = helper.make_node(op_type, inputs, list(node.output), name=node.name, **attributes)
        node.CopyFrom(made)

    def bypass(self, node: onnx.NodeProto, slot: int = 0) -> None:
        """Hand an input of a node through as its result."""
        self.replace(node, "Identity", node.input[slot])

    def set(self, node: onnx.NodeProto, **attributes: Any) -> None:
        """Overwrite attributes of a node."""
        kept = [held for held in node.attribute if held.name not in attributes]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())

    def _tensor(self, name: str) -> onnx.TensorProto:
        for tensor in self.graph.initializer:
            if tensor.name == name:
                return tensor
        raise LookupError(f"'{name}' is not an initialiser")
