"""The captured program in a form of our own: an op list and named weights.

Loading the ``.pt2`` of a 70-block model takes minutes. This form loads in seconds: one JSON list
of ops (each an allow-listed target with references, scalars and dtypes as arguments) and one
safetensors file. Nothing in it is executable; a target that is not on the list is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.export.graph_signature import OutputKind

from exporter.core.errors import StageError
from exporter.core.tensors import Axis, Tap, TensorSpec
from exporter.graph.guards import Guard
from exporter.graph.node_origin import source_of_trace


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to the value that an earlier op, an input or a weight has."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Ops that are run by another op: one way of a ``cond``, one turn of a loop.

    Attributes:
        inputs: names that its operands have inside. outputs: what it returns, ``Ref`` or scalars.
    """

    inputs: tuple[str, ...]
    ops: tuple[Op, ...]
    outputs: tuple[Any, ...]

    def refs(self) -> Iterator[str]:
        """Names that are read inside and made outside."""
        made = set(self.inputs)
        for op in self.ops:
            yield from (name for name in op.refs() if name not in made)
            made.add(op.name)
        yield from (name for name in _refs_in(self.outputs) if name not in made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One call of the program.

    Attributes:
        name: name of its value; the ONNX exporter gives the ONNX value the same name.
        target: ``aten.linear.default``, ``operator.getitem``, ``math.ceil`` ...
        args, kwargs: scalars, ``Ref``, dtypes, ``Block``, and (nested) tuples of these.
        kind: "tensor", "tensors" (a tuple, read through getitem) or "size" (an integer).
        dtype: numpy name of a tensor's dtype; "int64" for a size that is an integer; "" else.
        module, module_class, source: where in the model it was called.
        empty: one of its sizes is 0, and no size of the inputs changes that.
        discrete: its value is of integers or booleans, equal to another one or not.
    """

    name: str
    target: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    kind: str
    dtype: str = ""
    module: str = ""
    module_class: str = ""
    source: str = ""
    empty: bool = False
    # Asked for in every walk, so found once.
    discrete: bool = field(init=False, repr=False, compare=False)
    _refs: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "discrete", self.dtype.startswith(("int", "uint", "bool")))
        object.__setattr__(
            self, "_refs", (*_refs_in(self.args), *_refs_in(tuple(self.kwargs.values())))
        )

    def refs(self) -> Iterator[str]:
        """Names that this op reads, in order, with repetitions."""
        return iter(self._refs)

    def blocks(self) -> Iterator[Block]:
        """What it runs, of a branch or a loop."""
        return (arg for arg in self.args if isinstance(arg, Block))

    @property
    def tap(self) -> Tap:
        """This op as a tap."""
        return Tap(
            name=self.name,
            module=self.module,
            module_class=self.module_class,
            op=self.target,
            source=self.source,
            empty=self.empty,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A captured program: inputs -> ops -> outputs, with weights by name.

    Attributes:
        inputs: names of the user inputs, in order.
        weights: name inside the program -> tensor key (the ONNX initialiser's name).
        ops: in execution order.
        outputs: names of the values returned, in order.
        output_names: names that the graph's users see, in the same order.
        tensors: key -> tensor; shared with the module it came from, never written to.
        limits: axis -> sizes that were found to be taken, where they are narrower than declared:
            lowest, highest (None: no limit at that end), and what they are multiples of.
        notes: what a report should say of how it was captured.
        guards: what the capture rests on; inputs in it have the names of ``inputs``.
        specs: of the inputs, with the sizes that their axes were found to take and the values
            that states begin with; () for a program that no pipeline was built to.
        fallback: of a trace of the legacy exporter: why there is no program of torch.export; "".
    """

    inputs: tuple[str, ...]
    weights: Mapping[str, str]
    ops: tuple[Op, ...]
    outputs: tuple[str, ...]
    output_names: tuple[str, ...]
    tensors: Mapping[str, torch.Tensor]
    limits: Mapping[str, tuple[int, int | None, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = ()
    specs: tuple[TensorSpec, ...] = ()
    fallback: str = ""

    def onnx_name(self, name: str) -> str:
        """Name of a value in the ONNX graph (outputs carry their public name there)."""
        if name in self.outputs:
            return self.output_names[self.outputs.index(name)]
        return name

    def takes(self) -> list[str]:
        """The axes that take fewer sizes than was declared, in words: ``4 to 200 frames``."""
        axes = [
            Axis(name=name, minimum=lowest, maximum=highest, multiple_of=step)
            for name, (lowest, highest, step) in self.limits.items()
        ]
        return [f"{axis.words()} {axis.name}" for axis in axes]


def renamed_ops(program: Program, names: Mapping[str, str]) -> Program:
    """The same program, its ops that are named in ``names`` called otherwise."""
    return replace(
        program,
        ops=tuple(
            replace(_relabelled(op, names), name=names.get(op.name, op.name)) for op in program.ops
        ),
        outputs=tuple(names.get(name, name) for name in program.outputs),
    )


def _refs_in(value: Any) -> Iterator[str]:
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, Block):
        yield from value.refs()
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _refs_in(item)


def from_exported(
    exported: torch.export.ExportedProgram,
    output_names: tuple[str, ...],
    input_names: tuple[str, ...] | None = None,
) -> Program:
    """Turn an ``ExportedProgram`` (after decompositions) into a ``Program``.

    Args:
        input_names: names of the inputs that users see; ``None``: those of the program, which
            are Python's (``caches_0`` for ``caches.0``).

    Raises:
        StageError: the program writes to its inputs or buffers, returns an input, or calls
            something other than a plain op.
    """
    signature = exported.graph_signature
    _check_writes(exported)
    sources = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    stored = {**exported.state_dict, **exported.constants}
    used = {node.name for node in exported.graph.nodes if node.users}
    weights = {name: key for name, key in sources.items() if name in used}
    ops, outputs = [], ()
    for node in exported.graph.nodes:
        if node.op == "call_function":
            op = _op_of(node)
            if op is not None:
                ops.append(op)
        elif node.op == "output":
            outputs = tuple(arg.name for arg in node.args[0])
        elif node.op != "placeholder" and not (is_block(node) and _is_run_by_known(node)):
            raise StageError("capture", f"'{node.name}': {node.op} nodes are not supported")
    inputs = tuple(str(name) for name in signature.user_inputs)
    labels = dict(zip(inputs, input_names or inputs, strict=True))
    for name, label in zip(outputs, output_names, strict=True):
        if name in inputs:
            raise StageError("capture", f"output '{label}' is the input '{name}' passed through")
    needed = _reaching(ops, outputs)
    if len(set(outputs)) != len(outputs):
        raise StageError("capture", "two outputs are the same value")
    return Program(
        inputs=tuple(labels.values()),
        weights={name: key for name, key in weights.items() if name in needed},
        ops=tuple(_relabelled(op, labels) for op in ops if op.name in needed),
        outputs=outputs,
        output_names=output_names,
        tensors={key: stored[key].detach() for name, key in weights.items() if name in needed},
    )


def _reaching(ops: list[Op], outputs: tuple[str, ...]) -> set[str]:
    """Values that an output depends on; the rest is dead code that the tracer left."""
    needed = set(outputs)
    for op in reversed(ops):
        if op.name in needed:
            needed.update(op.refs())
    return needed


_RENORM = torch.ops.aten.embedding_renorm.default


def _check_writes(exported: torch.export.ExportedProgram) -> None:
    """Nothing but what is returned may come out of a program.

    Raises:
        StageError: it writes to its inputs, buffers or weights.
    """
    specs = exported.graph_signature.output_specs
    written = sorted(
        {str(spec.target) for spec in specs if spec.kind != OutputKind.USER_OUTPUT and spec.target}
    )
    if not written:
        return
    remedy = "make that state an input and an output, or it is dropped by the export"
    for node in exported.graph.nodes:
        if node.target is _RENORM:
            limit, power = node.args[2:4]
            at = source_of(node)
            remedy = (
                f"an embedding with max_norm{f' ({at})' if at else ''} scales its rows while it is"
                " read: scale them once when the model is built, weight.copy_(torch.renorm(weight,"
                f" {power}, 0, {limit})), and set max_norm to None"
            )
    what = f"the model writes to {', '.join(written)} while it runs"
    raise StageError("capture", what, remedy=remedy)


def _relabelled(op: Op, labels: Mapping[str, str]) -> Op:
    """The op with the names of inputs that users see."""
    if all(labels.get(name, name) == name for name in op.refs()):
        return op
    kwargs = {key: _renamed(value, labels) for key, value in op.kwargs.items()}
    return replace(op, args=_renamed(op.args, labels), kwargs=kwargs)


def _renamed(value: Any, labels: Mapping[str, str]) -> Any:
    if isinstance(value, Ref):
        return Ref(labels.get(value.name, value.name))
    if isinstance(value, tuple):
        return tuple(_renamed(item, labels) for item in value)
    return value


_DROPPED = (
    "aten._assert_scalar.default",
    "aten._assert_tensor_metadata.default",
    "aten.sym_constrain_range.default",
    "aten.sym_constrain_range_for_size.default",
    "aten._assert_async.msg",
)


def _op_of(node: torch.fx.Node) -> Op | None:
    target = target_name(node.target)
    if target in _DROPPED:
        return None
    value = node.meta.get("val")
    if isinstance(value, torch.Tensor):
        kind = "tensor"
    elif isinstance(value, (tuple, list)):
        kind = "tensors"
    else:
        kind = "size"
    module, module_class = _module_of(node)
    return Op(
        name=node.name,
        target=target,
        args=tuple(_encode(node, arg) for arg in node.args),
        kwargs={key: _encode(node, arg) for key, arg in node.kwargs.items()},
        kind=kind,
        dtype=_dtype_of(value),
        module=module,
        module_class=module_class,
        source=source_of(node),
        empty=isinstance(value, torch.Tensor)
        and any(isinstance(size, int) and size == 0 for size in value.shape),
    )


def _dtype_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return str(value.dtype).removeprefix("torch.")
    whole = isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)
    return "int64" if whole else ""


def target_name(target: Any) -> str:
    """Stable name of a call target: ``aten.add.Tensor``, ``operator.mul``, ``torch.sym_max``."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target.name()}"
    module = getattr(target, "__module__", "") or ""
    name = getattr(target, "__name__", str(target))
    return f"{module.lstrip('_')}.{name}"


def _encode(node: torch.fx.Node, arg: Any) -> Any:
    if isinstance(arg, torch.fx.Node):
        return block_of(arg) if is_block(arg) else Ref(arg.name)
    if isinstance(arg, (tuple, list)):
        return tuple(_encode(node, item) for item in arg)
    plain = (int, float, bool, str, torch.dtype, torch.device, torch.layout, torch.memory_format)
    if arg is None or isinstance(arg, plain):
        return arg
    raise StageError("capture", f"'{node.name}': argument of type {type(arg).__name__}")


_RUN_BLOCKS = frozenset({"cond", "while_loop", "scan"})


def _is_run_by_known(node: torch.fx.Node) -> bool:
    return all(getattr(user.target, "__name__", "") in _RUN_BLOCKS for user in node.users)


def is_block(node: torch.fx.Node) -> bool:
    """Whether a node of a program stands for a graph of its own."""
    return node.op == "get_attr" and isinstance(_held(node), torch.fx.GraphModule)


def _held(node: torch.fx.Node) -> Any:
    return getattr(node.graph.owning_module, str(node.target), None)


def block_of(node: torch.fx.Node) -> Block:
    """The graph that a node stands for."""
    nodes = list(_held(node).graph.nodes)
    (output,) = (inner for inner in nodes if inner.op == "output")
    returned = output.args[0]
    returned = returned if isinstance(returned, (tuple, list)) else (returned,)
    ops = [_op_of(inner) for inner in nodes if inner.op == "call_function"]
    return Block(
        inputs=tuple(inner.name for inner in nodes if inner.op == "placeholder"),
        ops=tuple(op for op in ops if op is not None),
        outputs=tuple(_encode(output, value) for value in returned),
    )


def _module_of(node: torch.fx.Node) -> tuple[str, str]:
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "", ""
    path, cls = list(stack.values())[-1]
    if path.startswith("_empty_nn_module_stack"):
        return "", ""
    label = cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"
    return path.removeprefix("L['self']").lstrip("."), label


def source_of(node: torch.fx.Node) -> str:
    """``file:line`` of the statement that a node was traced from; "" when unknown."""
    return source_of_trace(node.meta.get("stack_trace") or "")
