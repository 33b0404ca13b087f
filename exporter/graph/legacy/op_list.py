"""The ops and weights of a program that is being put together, each under a name of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from exporter.graph.legacy.schema import dtype_name
from exporter.graph.legacy.trace import module_of, place_of_node
from exporter.graph.program import Op, Program, Ref

_SIZE = "aten.sym_size.int"


@dataclass(slots=True)
class OpList:
    """Ops in order.

    Attributes:
        inputs: on the example, by name. node: of the trace, that is being translated.
        weights: name inside of the program -> key. stored: key -> tensor.
    """

    inputs: Mapping[str, Tensor]
    node: Any = None
    ops: list[Op] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)
    stored: dict[str, Tensor] = field(default_factory=dict)
    _dtypes: dict[str, str] = field(default_factory=dict)
    _taken: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tensor in self.inputs.items():
            self._taken[name], self._dtypes[name] = 0, dtype_name(tensor)

    def weight(self, key: str, tensor: Tensor) -> Ref:
        """A weight under its key in the module."""
        name = self._name("p_" + key.replace(".", "_"))
        self.weights[name], self.stored[key] = key, tensor.detach()
        self._dtypes[name] = dtype_name(tensor)
        return Ref(name)

    def constant(self, tensor: Tensor) -> Ref:
        """A tensor that stands in the code."""
        return self.weight(self._name("constant"), tensor)

    def emit(self, target: str, *args: Any) -> Ref:
        """Add a view or a write: what comes out has the dtype of what goes in."""
        first = next((arg.name for arg in args if isinstance(arg, Ref)), "")
        if target == _SIZE:
            return self._add(target, args, {}, "size", "int64")
        return self._add(target, args, {}, "tensor", self._dtypes.get(first, ""))

    def add(self, target: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Ref:
        """Add an op that gives ``result`` on the example."""
        if isinstance(result, Tensor):
            return self._add(target, args, kwargs, "tensor", dtype_name(result))
        if isinstance(result, (list, tuple)):
            return self._add(target, args, kwargs, "tensors", "")
        whole = isinstance(result, int) and not isinstance(result, bool)
        return self._add(target, args, kwargs, "size", "int64" if whole else "")

    def program(self, outputs: Sequence[str], names: Sequence[str]) -> Program:
        """What the outputs depend on, as a program.

        Args:
            outputs: names of values. names: what users call them.
        """
        used = set(outputs)
        for op in reversed(self.ops):
            if op.name in used:
                used.update(op.refs())
        return Program(
            inputs=tuple(self.inputs),
            weights={name: key for name, key in self.weights.items() if name in used},
            ops=tuple(op for op in self.ops if op.name in used),
            outputs=tuple(outputs),
            output_names=tuple(names),
            tensors={key: self.stored[key] for name, key in self.weights.items() if name in used},
        )

    def made(self) -> Iterable[str]:
        """Names of all ops."""
        return (op.name for op in self.ops)

    def _add(
        self, target: str, args: Sequence[Any], kwargs: Mapping[str, Any], kind: str, dtype: str
    ) -> Ref:
        op = Op(
            name=self._name(target.split(".")[1].strip("_") or "op"),
            target=target,
            args=tuple(args),
            kwargs=dict(kwargs),
            kind=kind,
            dtype=dtype,
        )
        if self.node is not None:
            module, module_class = module_of(self.node)
            source = place_of_node(self.node)
            op = replace(op, module=module, module_class=module_class, source=source)
        self.ops.append(op)
        self._dtypes[op.name] = dtype
        return Ref(op.name)

    def _name(self, base: str) -> str:
        count = self._taken.get(base)
        self._taken[base] = 0 if count is None else count + 1
        name = base if count is None else f"{base}_{count + 1}"
        return name if name == base or name not in self._taken else self._name(name)
