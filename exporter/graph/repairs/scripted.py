"""Scripted and traced parts (``torch.jit.script``, ``torch.jit.load``): their graphs in Python.

TorchScript's own interpreter knows no sizes but numbers, so that a trace through it freezes every
axis, and torch.export does not enter it at all. Here a module with the same weights stands in the
place of such a part. It walks the part's graph node by node with torch's ops: sizes stay sizes, a
branch on a size is asked as Python asks it, and layers inside are layers of the program.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from exporter.graph.legacy.schema import PYTHON, by_schema, op_of, schema_name
from exporter.graph.repairs.frame import Log, NotRepairedError, Repair
from exporter.graph.repairs.module_run import ModuleRun
from exporter.graph.torch_refusal import line_in

_REMEDY = (
    "give the module as it was before torch.jit.script or torch.jit.trace; a checkpoint of its"
    " weights can be loaded into that"
)
_TURNS = 100_000


class InPython(nn.Module):
    """A TorchScript module as one of Python's: the same weights under the same names.

    Args:
        script: what it stands for.
    """

    def __init__(self, script: Any, log: Log):
        super().__init__()
        # Behind functions: neither is a part of this module, nor anything of its state.
        self._script, self._met = (lambda: script), (lambda what: log.at(what))
        for name, value in script.named_parameters(recurse=False):
            # A copy of a script hands its weights out as plain tensors.
            plain = value if isinstance(value, nn.Parameter) else nn.Parameter(value, False)
            self.register_parameter(name, plain)
        for name, value in script.named_buffers(recurse=False):
            self.register_buffer(name, value)
        for name, child in script.named_children():
            self.add_module(name, InPython(child, log))
        self.eval()

    @property
    def kind(self) -> str:
        """What the class was called before it was scripted."""
        return str(getattr(self._script(), "original_name", type(self._script()).__name__))

    def forward(self, *args: Any) -> Any:
        """Walk the graph of ``forward``."""
        self._met(f"{self.kind}.forward()")
        return self.method("forward", args)

    def method(self, name: str, args: Sequence[Any]) -> Any:
        """Walk the graph of a method."""
        graph = self._script()._c._get_method(name).graph
        if any(node.kind() == "prim::CallFunction" for node in _all_nodes(graph)):
            graph = graph.copy()
            torch._C._jit_pass_inline(graph)
        given = list(graph.inputs())
        defaults = [self, *args]
        if len(defaults) < len(given):
            defaults += _defaults(self._script(), name, len(defaults), len(given))
        values = {held.unique(): value for held, value in zip(given, defaults, strict=True)}
        found = _Walk(values).block(graph)
        return found[0] if len(found) == 1 else tuple(found)

    def attribute(self, name: str) -> Any:
        """A weight, a part, or whatever else the script keeps."""
        if name in self._parameters or name in self._buffers or name in self._modules:
            return getattr(self, name)
        return getattr(self._script(), name)


def _all_nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _all_nodes(inner)


def _defaults(script: Any, name: str, have: int, want: int) -> list[Any]:
    arguments = script._c._get_method(name).schema.arguments
    return [argument.default_value for argument in arguments[have:want]]


class _Walk:
    """The values of one call of a graph, by number."""

    def __init__(self, values: dict[int, Any]):
        self._values = values

    def block(self, block: Any) -> list[Any]:
        """Run the nodes of a graph or of a block; gives what it returns."""
        for node in block.nodes():
            self._node(node)
        returned = list(block.outputs())
        return [self._values[value.unique()] for value in returned]

    def _node(self, node: Any) -> None:
        outputs = list(node.outputs())
        kind = node.kind()
        if kind == "prim::Constant":
            self._values[outputs[0].unique()] = outputs[0].toIValue()
            return
        if kind == "prim::If":
            self._give(outputs, self._branch(node))
            return
        if kind == "prim::Loop":
            self._give(outputs, self._loop(node))
            return
        values = [self._values[value.unique()] for value in node.inputs()]
        if kind in ("prim::ListUnpack", "prim::TupleUnpack"):
            self._give(outputs, list(values[0]))
        elif kind == "prim::GetAttr":
            self._give(outputs, [values[0].attribute(node.s("name"))])
        elif kind == "prim::CallMethod":
            name = node.s("name")
            held = values[0]
            found = held(*values[1:]) if name == "forward" else held.method(name, values[1:])
            self._give(outputs, [found])
        elif kind == "prim::RaiseException":
            raise RuntimeError(str(values[0]))
        elif kind in _MADE:
            self._give(outputs, [_MADE[kind](values)])
        elif kind.startswith("aten::"):
            found = _called(node, values)
            several = len(outputs) > 1
            self._give(outputs, list(found) if several else [found][: len(outputs)])
        else:
            raise _stopped(node)

    def _give(self, outputs: Sequence[Any], found: Sequence[Any]) -> None:
        for output, value in zip(outputs, found, strict=True):
            self._values[output.unique()] = value

    def _branch(self, node: Any) -> list[Any]:
        (asked,) = node.inputs()
        then, other = node.blocks()
        return self.block(then if bool(self._values[asked.unique()]) else other)

    def _loop(self, node: Any) -> list[Any]:
        turns, go_on, *carried = (self._values[value.unique()] for value in node.inputs())
        (body,) = node.blocks()
        turn = 0
        while turn < turns and bool(go_on):
            if turn > _TURNS:
                raise _stopped(node)
            given = [value.unique() for value in body.inputs()]
            self._values.update(zip(given, [turn, *carried], strict=True))
            go_on, *carried = self.block(body)
            turn += 1
        return carried


def _called(node: Any, values: list[Any]) -> Any:
    """One op of torch's; on numbers and lists alone, what Python makes of them."""
    name, overload = schema_name(node.schema())
    if not any(isinstance(value, Tensor) for value in values) or name in _OF_LISTS:
        plain = _OF_LISTS.get(name) or PYTHON.get(name)
        if plain is not None:
            return plain(*values[: _ARITY.get(name, 2)])
    if name in _OF_TENSORS:
        return _OF_TENSORS[name](*values)
    op = op_of(name, overload)
    if op is None:
        raise _stopped(node)
    args, kwargs = by_schema(op, values)
    return op(*args, **kwargs)


def _append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def _size(tensor: Tensor, axis: int | None = None) -> Any:
    return list(tensor.shape) if axis is None else tensor.shape[axis]


_ARITY = {"neg": 1, "__not__": 1, "str": 1, "format": 9, "warn": 9}
_OF_LISTS: dict[str, Callable[..., Any]] = {
    "append": _append,
    "__getitem__": lambda values, at: values[at],
    "__not__": lambda value: not value,
    "__is__": lambda left, right: left is right,
    "__isnot__": lambda left, right: left is not right,
    "__and__": lambda left, right: left and right,
    "__or__": lambda left, right: left or right,
    "__contains__": lambda values, value: value in values,
    "format": lambda text, *values: text.format(*values),
    "str": str,
    "warn": lambda *values: None,
}
_OF_TENSORS: dict[str, Callable[..., Any]] = {
    "size": _size,
    "dim": lambda tensor: tensor.dim(),
    "len": len,
    "numel": lambda tensor: tensor.numel(),
    "Int": lambda value: value.item() if isinstance(value, Tensor) else int(value),
    "IntImplicit": lambda value: value.item(),
    "ScalarImplicit": lambda value: value.item(),
    "Float": lambda value: value.item() if isinstance(value, Tensor) else float(value),
    "FloatImplicit": lambda value: value.item(),
    "Bool": lambda value: bool(value),
    "is_floating_point": lambda tensor: tensor.is_floating_point(),
}
_MADE: dict[str, Callable[[list[Any]], Any]] = {
    "prim::ListConstruct": list,
    "prim::TupleConstruct": tuple,
    "prim::TupleIndex": lambda values: values[0][values[1]],
    "prim::NumToTensor": lambda values: torch.scalar_tensor(
        values[0], dtype=None if isinstance(values[0], float) else torch.int64
    ),
    "prim::dtype": lambda values: values[0].dtype,
    "prim::device": lambda values: values[0].device,
    "prim::unchecked_cast": lambda values: values[0],
    "prim::Uninitialized": lambda values: None,
    "prim::min": lambda values: min(values) if len(values) > 1 else min(values[0]),
    "prim::max": lambda values: max(values) if len(values) > 1 else max(values[0]),
    "prim::is_cuda": lambda values: False,
}


def _stopped(node: Any) -> NotRepairedError:
    at = line_in(node.sourceRange())
    where = f" at {at}" if at else ""
    what = f"a scripted part has {node.kind()}{where}, which is not run here"
    return NotRepairedError(what, _REMEDY)


def _places(module: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """The outermost scripted parts: who holds them, under which name."""
    for name, child in module.named_children():
        if isinstance(child, torch.jit.ScriptModule):
            yield module, name, child
        else:
            yield from _places(child)


@contextlib.contextmanager
def _apply(run: ModuleRun, log: Log) -> Iterator[None]:
    held = [(owner, name, child) for owner, name, child in _places(run.module)]
    try:
        for owner, name, child in held:
            owner._modules[name] = InPython(child, log)
        yield
    finally:
        for owner, name, child in held:
            owner._modules[name] = child


REPAIR = Repair(
    name="scripted",
    replaces="TorchScript's graph is run op by op",
    strategy="scripted parts run as Python",
    matches=lambda run: any(True for _ in _places(run.module)),
    apply=_apply,
)
