"""A trace -> ``Program``: the same ops, with names, types, modules and lines.

What TorchScript spells in its own way becomes what ``torch.export`` writes: lists and tuples are
arguments, numbers are themselves, a size that a trace holds as a tensor goes in and out of one, and
writes are values (``functional``). The trace is run on the example beside it, so that every value
is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from exporter.core.errors import StageError
from exporter.graph.legacy.functional import Functional
from exporter.graph.legacy.op_list import OpList
from exporter.graph.legacy.schema import (
    NUMBERS,
    PYTHON,
    by_schema,
    flat,
    op_of,
    schema_name,
    writes,
)
from exporter.graph.legacy.trace import Trace, place_of_node
from exporter.graph.program import Program, Ref

_AS_NUMBER = frozenset(
    "aten::Int aten::IntImplicit aten::Float aten::FloatImplicit aten::Bool aten::ScalarImplicit"
    " aten::item".split()
)
_SIZE = "aten.sym_size.int"
_SAID_ONLY = frozenset({"aten::warn", "prim::Print", "prim::RaiseException"})


@dataclass(slots=True, kw_only=True)
class Translated:
    """A program, and where its values are in the trace.

    Attributes:
        values: name of an op -> the trace's value, of tensors that nothing writes to later.
        tensors: of those, by name, on the example.
    """

    program: Program
    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def translate(
    traced: Trace,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
) -> Translated:
    """The program of a trace.

    Args:
        example: what was traced, by input. outputs: names of the results, in order.

    Raises:
        StageError: the trace has something that no program holds.
    """
    return _Translator(traced, example, outputs).run()


@dataclass(slots=True)
class _Translator:
    traced: Trace
    example: Mapping[str, Tensor]
    outputs: Sequence[str]
    ops: OpList = field(init=False)
    actual: dict[int, Any] = field(default_factory=dict)
    origins: dict[str, tuple[Any, int]] = field(default_factory=dict)
    numbers: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    state: Functional = field(init=False)

    def __post_init__(self) -> None:
        self.ops = OpList(self.example)
        self.state = Functional(self.ops.emit)

    def run(self) -> Translated:
        with torch.no_grad():
            self._begin()
            for node in self.traced.graph.nodes():
                self.ops.node = node
                self._translate(node)
            returned = self._returned()
        program = self.ops.program(returned, self.outputs)
        used = {op.name for op in program.ops}
        values, tensors = {}, {}
        for name, (value, seen) in self.origins.items():
            # What is written to later has another value at the end, where it would be read.
            if name in used and self.state.last_writes(value.unique()) == seen:
                values[name], tensors[name] = value, self.actual[value.unique()]
        return Translated(program=program, values=values, tensors=tensors)

    def _begin(self) -> None:
        given = list(self.traced.graph.inputs())
        inputs, weights = given[: len(self.example)], given[len(self.example) :]
        for value, (name, tensor) in zip(inputs, self.example.items(), strict=True):
            self._know(value, Ref(name), tensor.clone())
        for value, (key, tensor) in zip(weights, self.traced.weights.items(), strict=True):
            self._know(value, self.ops.weight(key, tensor), tensor)

    def _know(
        self,
        value: Any,
        stand_in: Any,
        actual: Any,
        of: Any = None,
        target: str = "",
        args: Any = (),
    ) -> None:
        number = value.unique()
        self.actual[number] = actual
        if isinstance(actual, Tensor):
            self.state.made(
                number, stand_in, actual, None if of is None else of.unique(), target, tuple(args)
            )
        else:
            self.state.held[number] = stand_in

    def _translate(self, node: Any) -> None:
        kind = node.kind()
        if kind in _SAID_ONLY:
            return
        outputs, inputs = list(node.outputs()), list(node.inputs())
        if kind == "prim::Constant":
            self._constant(outputs[0])
        elif kind in ("prim::ListConstruct", "prim::TupleConstruct"):
            self._know(outputs[0], self._read_all(inputs), [self._actual(v) for v in inputs])
        elif kind in ("prim::ListUnpack", "prim::TupleUnpack"):
            self._unpack(inputs[0], outputs)
        elif kind == "prim::NumToTensor":
            self._to_tensor(inputs[0], outputs[0])
        elif kind in _AS_NUMBER:
            self._number(inputs[0], outputs[0])
        elif kind.startswith("aten::"):
            self._call(node, inputs, outputs)
        else:
            self._refuse(node)

    def _refuse(self, node: Any) -> None:
        kind, place = node.kind(), place_of_node(node)
        at = f" at {place}" if place else ""
        raise StageError("capture", f"a trace with {kind}{at} is not followed", source=place)

    def _read(self, value: Any) -> Any:
        number = value.unique()
        if isinstance(self.actual[number], list):
            return self._refreshed(value)
        return self.state.read(number)

    def _refreshed(self, value: Any) -> Any:
        """A list is read by its parts: one of them may have been written to meanwhile."""
        node = value.node()
        if node.kind() in ("prim::ListConstruct", "prim::TupleConstruct"):
            return self._read_all(list(node.inputs()))
        return self.state.held[value.unique()]

    def _read_all(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(self._read(value) for value in values)

    def _actual(self, value: Any) -> Any:
        return self.actual[value.unique()]

    def _constant(self, value: Any) -> None:
        constant = value.toIValue()
        if isinstance(constant, Tensor):
            self._know(value, self.ops.constant(constant), constant)
        elif isinstance(constant, list):
            self._know(value, tuple(constant), constant)
        else:
            self._know(value, constant, constant)

    def _unpack(self, value: Any, outputs: Sequence[Any]) -> None:
        ref, actual = self._read(value), self._actual(value)
        for place, output in enumerate(outputs):
            if isinstance(ref, Ref):
                self._item(ref, place, output, actual[place])
            else:
                self._know(output, ref[place], actual[place])

    def _item(self, ref: Ref, place: int, output: Any, actual: Any) -> None:
        made = self.ops.add("operator.getitem", (ref, place), {}, actual)
        self._know(output, made, actual)
        self._origin(made, output)

    def _origin(self, made: Ref, value: Any) -> None:
        if isinstance(self._actual(value), Tensor):
            self.origins[made.name] = (value, self.state.last_writes(value.unique()))

    def _to_tensor(self, value: Any, output: Any) -> None:
        ref, number = self._read(value), self._actual(value)
        dtype = output.type().dtype() or torch.int64
        actual = torch.tensor(number, dtype=dtype)
        made = self.ops.add("aten.scalar_tensor.default", (ref,), {"dtype": dtype}, actual)
        self._know(output, made, actual)
        self.numbers[made.name] = (ref, number)
        # In the file this is the value of the number itself.
        self._origin(ref if isinstance(ref, Ref) else made, output)

    def _number(self, value: Any, output: Any) -> None:
        ref, actual = self._read(value), self._actual(value)
        if not isinstance(actual, Tensor):
            self._know(output, ref, actual)
            return
        if isinstance(ref, Ref) and ref.name in self.numbers:
            self._know(output, *self.numbers[ref.name])
            return
        number = actual.item()
        self._know(output, self.ops.add("aten.item.default", (ref,), {}, number), number)

    def _call(self, node: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        name, overload = schema_name(node.schema())
        refs, actual = self._read_all(inputs), [self._actual(value) for value in inputs]
        if not any(isinstance(value, Tensor) for value in flat(actual)):
            self._compute(node, name, overload, refs, actual, outputs[0])
            return
        if name == "size":
            self._size(refs, actual, outputs[0])
            return
        op = op_of(name, overload)
        if op is None:
            self._refuse(node)
            return
        args, kwargs = by_schema(op, refs)
        real, named = by_schema(op, actual)
        if name == "_convolution":
            # What comes behind the groups says which library may be taken.
            op, args, real = torch.ops.aten.convolution.default, args[:9], real[:9]
        if writes(op):
            self._write(node, op, inputs, args, kwargs, real, named, outputs)
            return
        result = op(*real, **named)
        target = str(op)
        made = self.ops.add(target, args, kwargs, result)
        if len(outputs) == 1:
            of = inputs[0] if isinstance(actual[0], Tensor) else None
            self._know(outputs[0], made, result, of, target, args[1:])
            self._origin(made, outputs[0])
        else:
            for place, (output, value) in enumerate(zip(outputs, result, strict=True)):
                self._item(made, place, output, value)

    def _compute(
        self, node: Any, name: str, overload: str, refs: Any, actual: Any, output: Any
    ) -> None:
        """Numbers, and what is made from numbers alone."""
        if overload in NUMBERS and name in PYTHON:
            result = PYTHON[name](*actual)
            if not any(isinstance(arg, Ref) for arg in refs):
                self._know(output, result, result)
                return
            made = self.ops.add(f"operator.{PYTHON[name].__name__}", refs, {}, result)
            self._know(output, made, result)
            return
        op = op_of(name, overload)
        if op is None:
            self._refuse(node)
            return
        args, kwargs = by_schema(op, refs)
        real, named = by_schema(op, actual)
        result = op(*real, **named)
        made = self.ops.add(str(op), args, kwargs, result)
        self._know(output, made, result)
        self._origin(made, output)

    def _size(self, ref: Any, actual: Any, output: Any) -> None:
        tensor: Tensor = actual[0]
        if len(actual) == 2:
            size = int(tensor.shape[actual[1]])
            self._know(output, self.ops.add(_SIZE, ref, {}, size), size)
            return
        numbers = [int(size) for size in tensor.shape]
        pairs = enumerate(numbers)
        sizes = tuple(self.ops.add(_SIZE, (ref[0], axis), {}, size) for axis, size in pairs)
        self._know(output, sizes, numbers)

    def _write(
        self,
        node: Any,
        op: Any,
        inputs: Sequence[Any],
        args: Any,
        kwargs: Any,
        real: Any,
        named: Any,
        outputs: Sequence[Any],
    ) -> None:
        """An op that writes to its first operand, as one that gives what is there afterwards."""
        name, overload = schema_name(node.schema())
        place = place_of_node(node)
        before: Tensor = real[0]
        memory = before.untyped_storage().data_ptr()
        weights = self.traced.weights.values()
        if any(memory == weight.untyped_storage().data_ptr() for weight in weights):
            at = f" at {place}" if place else ""
            raise StageError("capture", f"the model writes to a weight or buffer{at}, in a trace")
        plain = op_of(name.removesuffix("_"), overload)
        if name == "zero_":
            plain = torch.ops.aten.zeros_like.default
        if not name.endswith("_") or plain is None:
            self._refuse(node)
            return
        result = plain(*real, **named)
        made = self.ops.add(str(plain), args, kwargs, result)
        if result.shape != before.shape:
            self._refuse(node)
        if result.dtype != before.dtype:
            result = result.to(before.dtype)
            made = self.ops.add("aten.to.dtype", (made, before.dtype), {}, result)
        op(*real, **named)
        tensors = {n: t for n, t in self.actual.items() if isinstance(t, Tensor)}
        self.state.write(inputs[0].unique(), made, tensors, place)
        self.actual[outputs[0].unique()] = before
        self._know(outputs[0], made, before, inputs[0], "aten.alias.default", ())
        self._origin(made, outputs[0])

    def _returned(self) -> tuple[str, ...]:
        values = list(self.traced.graph.outputs())
        if len(values) == 1 and values[0].node().kind() == "prim::TupleConstruct":
            values = list(values[0].node().inputs())
        made = set(self.ops.made())
        names: list[str] = []
        for value in values:
            ref, actual = self._read(value), self._actual(value)
            if not isinstance(ref, Ref) or ref.name in names or ref.name not in made:
                ref = self.ops.add("aten.clone.default", (ref,), {}, actual)
            names.append(ref.name)
        return tuple(names)
