"""The exporter's decomposition of a program, each kind of op once.

Before it translates a program, the exporter lets torch take apart the ops that ONNX has no
counterpart of: torch runs the whole program twice on abstract tensors, at five milliseconds an
op, for what concerns a tenth of the ops, and of those every block of a network has the same. Here
an op is traced once per kind (target, dtypes, symbolic shapes and strides, constants), by torch and
with the exporter's own table, and what came out is put in place of every op of that kind; all
others stay as they are.

What is left to torch, program and all: writes to values that something else can see, control flow,
and an op whose trace has other shapes than the program says. Nothing rests on trust in this file:
the program that comes out is the one that is compared with the module itself, value by value.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from exporter.graph.distinct_outputs import with_distinct_outputs
from exporter.graph.empty_parts import with_plain_cats
from exporter.graph.floor_division import with_floor_division
from exporter.graph.idle_squeezes import with_plain_squeezes
from exporter.graph.op_trace import LeftToTorch, Operand, Template, described, trace_op
from exporter.graph.size_rounding import with_exact_rounding

_internals: Any = None
with contextlib.suppress(ImportError):  # another torch keeps them elsewhere: it does its own
    from torch._export.utils import _is_cia_op, _special_op_to_preserve_cia
    from torch.export.exported_program import (
        _override_composite_implicit_decomp,
        _split_decomp_table_to_cia_and_python_decomp,
    )
    from torch.onnx._internal.exporter import _decomp, _fx_passes

    _internals = _fx_passes

_ATEN = torch.ops.aten
_CHECKS = frozenset(
    {
        _ATEN._assert_scalar.default,
        _ATEN._assert_tensor_metadata.default,
        _ATEN._assert_async.default,
        _ATEN._assert_async.msg,
        _ATEN.sym_constrain_range.default,
        _ATEN.sym_constrain_range_for_size.default,
    }
)
# What these change is who may write or differentiate, which no longer matters in a traced program.
_NOTHING = frozenset({_ATEN.detach.default, _ATEN.detach_.default, _ATEN.alias.default})
_RENAMED = {_ATEN.lift_fresh_copy.default: _ATEN.clone.default}
_META = ("nn_module_stack", "stack_trace", "source_fn_stack", "torch_fn", "from_node", "custom")


@contextlib.contextmanager
def decomposed_once(left: Callable[[str], None]) -> Iterator[None]:
    """Let the exporter decompose as this file does, while the block runs.

    Args:
        left: told the reason when a program is left to torch.
    """
    own = getattr(_internals, "decompose_with_registry", None)
    if own is None:
        left("this version of torch has other internals")
        yield
        return

    def decompose(program: ExportedProgram, registry: Any) -> ExportedProgram:
        registered = set(_decomp.get_onnx_implemented_overloads(registry))
        table = _decomp.create_onnx_friendly_decomposition_table(registered)
        try:
            made = decompose_program(program, table)
        except LeftToTorch as reason:
            left(str(reason))
            made = own(program, registry)
        return _fitted(made)

    _internals.decompose_with_registry = decompose
    try:
        yield
    finally:
        _internals.decompose_with_registry = own


@contextlib.contextmanager
def decomposed_by_torch() -> Iterator[None]:
    """Let the exporter decompose as it does; what ONNX does not have is written otherwise."""
    own = getattr(_internals, "decompose_with_registry", None)
    if own is None:
        yield
        return
    _internals.decompose_with_registry = lambda *given: _fitted(own(*given))
    try:
        yield
    finally:
        _internals.decompose_with_registry = own


def _fitted(program: ExportedProgram) -> ExportedProgram:
    """The program with what PyTorch allows and ONNX does not written otherwise."""
    sizes = with_exact_rounding(with_floor_division(program))
    return with_distinct_outputs(with_plain_cats(with_plain_squeezes(sizes)))


def decompose_program(program: ExportedProgram, table: Mapping[Any, Any]) -> ExportedProgram:
    """Return a program without the ops that ``table`` takes apart.

    Raises:
        LeftToTorch: the program is not for this way.
    """
    composite, plain = _split_decomp_table_to_cia_and_python_decomp(dict(table))
    kept = {op for op, made in composite.items() if made is _special_op_to_preserve_cia}
    with _override_composite_implicit_decomp(composite), torch.no_grad():
        return _Rewrite(program, plain, kept, composite.keys() - kept).run()


class _Rewrite:
    """One program on its way into another."""

    def __init__(self, program: ExportedProgram, plain: Any, kept: set[Any], composite: set[Any]):
        self.program = program
        self.plain = plain
        self.kept = kept
        self.composite = composite
        self.graph = Graph()
        self.made: dict[Node, Any] = {}
        self.templates: dict[Any, Template] = {}
        self.sizes: dict[Any, Node] = {}

    def run(self) -> ExportedProgram:
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.made[node] = self.graph.node_copy(node, lambda n: self.made[n])
            elif node.op == "output":
                self.graph.output(self._mapped(node.args[0])).meta.update(node.meta)
            elif node.op == "call_function":
                self._call(node)
            else:
                raise LeftToTorch(f"'{node.name}' is a {node.op}")
        self.graph.eliminate_dead_code()
        module = GraphModule(self.program.graph_module, self.graph)
        module.meta.update(self.program.graph_module.meta)
        return ExportedProgram(
            root=module,
            graph=self.graph,
            graph_signature=self._signature(),
            state_dict=self.program.state_dict,
            range_constraints=self.program.range_constraints,
            module_call_graph=self.program.module_call_graph,
            example_inputs=self.program.example_inputs,
            constants=self.program.constants,
        )

    def _signature(self) -> Any:
        """The program's own, with the names that its outputs have now."""
        signature = self.program.graph_signature
        (new,) = (n for n in self.graph.nodes if n.op == "output")
        outputs = [
            replace(spec, arg=replace(spec.arg, name=after.name))
            if isinstance(after, Node)
            else spec
            for spec, after in zip(signature.output_specs, new.args[0], strict=True)
        ]
        return replace(signature, output_specs=outputs)

    def _mapped(self, value: Any) -> Any:
        return map_arg(value, lambda node: self.made[node])

    def _call(self, node: Node) -> None:
        target = node.target
        if target in _CHECKS:
            return
        if target in _NOTHING:
            self.made[node] = self.made[node.args[0]]  # type: ignore[index]
            return
        source = node.args[0] if node.args else None
        if target is operator.getitem and isinstance(self.made.get(source), (tuple, list)):  # type: ignore[arg-type]
            self.made[node] = self.made[source][node.args[1]]  # type: ignore[index]
            return
        if not isinstance(target, torch._ops.OpOverload):
            if isinstance(target, torch._ops.OperatorBase):
                raise LeftToTorch(f"'{node.name}' calls {target}")
            if node.kwargs:
                raise LeftToTorch(f"'{node.name}' calls {target} with keywords")
            args = self._mapped(node.args)
            self.made[node] = self._size(target, args, node.meta.get("val"), node)
            return
        if target is _ATEN.sym_size.int:
            self.made[node] = self._size(target, self._mapped(node.args), node.meta["val"], node)
            return
        if target is _ATEN.sym_numel.default:
            self.made[node] = self._numel(node)
            return
        if target._schema.is_mutable:
            target = self._not_in_place(node)
        target = _RENAMED.get(target, target)
        if self._is_taken_apart(target):
            self._put(node, target)
        else:
            self._copy(node, target)

    def _is_taken_apart(self, target: Any) -> bool:
        if target in self.kept:
            return False
        return target in self.plain or target in self.composite or _is_cia_op(target)

    def _copy(self, node: Node, target: Any) -> None:
        args, kwargs = self._mapped(node.args), self._mapped(node.kwargs)
        new = self._node(target, args, kwargs)
        new.meta.update(node.meta)
        self.made[node] = new

    def _node(self, target: Any, args: Any, kwargs: Any) -> Node:
        """A new node, with the name that torch's tracer would give it."""
        packet = getattr(target, "overloadpacket", target)
        return self.graph.create_node("call_function", target, args, kwargs, packet.__name__)

    def _size(self, target: Any, args: tuple[Any, ...], value: Any, node: Node) -> Node:
        """A size, once where the program computes it several times, however it does."""
        key = (target, args) if not isinstance(value, torch.SymInt) else str(value)
        if key not in self.sizes:
            new = self._node(target, args, {})
            new.meta.update(node.meta)
            new.meta["val"] = value
            self.sizes[key] = new
        return self.sizes[key]

    def _numel(self, node: Node) -> Any:
        """The number of elements, of which ONNX has no function on sizes, from the sizes."""
        (source,) = node.args
        made, total, value = self.made[source], None, 1  # type: ignore[index]
        for axis, size in enumerate(source.meta["val"].shape):  # type: ignore[union-attr]
            factor = size
            if isinstance(size, torch.SymInt):
                factor = self._size(_ATEN.sym_size.int, (made, axis), size, node)
            value = value * size
            if total is not None:
                factor = self._size(operator.mul, (total, factor), value, node)
            total = factor
        return 1 if total is None else total

    def _not_in_place(self, node: Node) -> Any:
        """The op that returns what ``node`` writes.

        Raises:
            LeftToTorch: something else sees what is written.
        """
        target: Any = node.target
        schema = target._schema
        written = [
            a for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write
        ]
        name = schema.name.removeprefix("aten::")
        packet = getattr(_ATEN, name.removesuffix("_"), None)
        overload = getattr(packet, schema.overload_name or "default", None)
        known = name.endswith("_") and written == [schema.arguments[0]]
        if not known or overload is None or overload._schema.is_mutable:
            raise LeftToTorch(f"'{node.name}' ({target}) writes to a value")
        self._check_unseen(node, node.args[0])
        return overload

    def _check_unseen(self, writer: Node, value: Any) -> None:
        """A value that is written to may be read by its writer only, and what it shows as well."""
        if value.op != "call_function" or len(value.users) != 1:
            raise LeftToTorch(f"'{writer.name}' writes to '{value.name}', which others see")
        if not isinstance(value.target, torch._ops.OpOverload):
            raise LeftToTorch(f"'{writer.name}' writes to a part of '{value.name}'")
        for source in value.all_input_nodes:
            if self._may_show(value, source):
                self._check_unseen(writer, source)

    def _may_show(self, value: Node, source: Node) -> bool:
        """True unless the op is known to make a value of its own.

        By its schema, which some ops are silent in, and by the storage of what was traced.
        """
        target: Any = value.target
        of, at = (node.meta.get("val") for node in (value, source))
        if not isinstance(at, torch.Tensor):
            return False
        if any(r.alias_info is not None for r in target._schema.returns):
            return True
        if _is_cia_op(target) and target not in self.kept:
            return True
        if not isinstance(of, torch.Tensor):
            return True
        return of.untyped_storage()._cdata == at.untyped_storage()._cdata

    def _put(self, node: Node, target: Any) -> None:
        """Put what an op becomes in its place."""
        inputs: list[Node] = []
        places: dict[Node, int] = {}

        def place(source: Node) -> Any:
            if source not in places:
                places[source] = len(inputs)
                inputs.append(source)
            return Operand(places[source])

        args = map_arg(node.args, place)
        kwargs = map_arg(node.kwargs, place)
        values = [source.meta.get("val") for source in inputs]
        key = (target, repr(args), repr(kwargs), tuple(map(described, values)))
        template = self.templates.get(key)
        if template is None:
            template = trace_op(target, args, kwargs, values, self.plain, node)
            self.templates[key] = template
        self.made[node] = self._paste(template, [self.made[source] for source in inputs], node)

    def _paste(self, template: Template, inputs: list[Any], node: Node) -> Any:
        here: dict[Node, Any] = {}
        given = iter(inputs)
        for part in template.graph.nodes:
            if part.op == "placeholder":
                here[part] = next(given)
            elif part.op == "call_function":
                args = map_arg(part.args, lambda n: here[n])
                if _is_size(part) and not part.kwargs:
                    here[part] = self._size(part.target, args, part.meta["val"], node)
                    continue
                kwargs = map_arg(part.kwargs, lambda n: here[n])
                new = self._node(part.target, args, kwargs)
                new.meta.update({key: node.meta[key] for key in _META if key in node.meta})
                new.meta["val"] = part.meta.get("val")
                here[part] = new
                if part is template.results:
                    # With the names of sizes that the rest of the program knows.
                    new.meta.update(node.meta)
        return map_arg(template.results, lambda n: here[n])


def _is_size(node: Node) -> bool:
    """Arithmetic on sizes, and not a size that is read from data."""
    arithmetic = not isinstance(node.target, torch._ops.OpOverload)
    known = arithmetic or node.target is _ATEN.sym_size.int
    return known and isinstance(node.meta.get("val"), torch.SymInt)
