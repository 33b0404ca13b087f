"""A captured program in which no value is complex: each is a pair of real ones.

Each op that reads or gives a complex value is replaced by what its rule does (``complex_rules``),
traced on the abstract values that the op has in the program. What has no rule is taken apart by
torch first. A complex weight keeps its name and becomes its real form ``[..., 2]``, the same
memory; inputs and outputs of a model are real already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import decomposition_table
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_map

from exporter.core.errors import StageError
from exporter.graph.op_trace import LeftToTorch, Operand, trace_call, trace_op
from exporter.graph.program import source_of
from exporter.graph.repairs import complex_rules as _registered  # noqa: F401 - fills the table
from exporter.graph.repairs.complex_table import Pair, rule_of

_META = ("nn_module_stack", "stack_trace", "source_fn_stack", "torch_fn", "from_node", "custom")
_METADATA = torch.ops.aten._assert_tensor_metadata.default


class NoRuleError(StageError):
    """An op on complex values of which nobody knows what it is on pairs."""

    def __init__(self, node: Node, target: Any, why: str):
        line = source_of(node)
        at = f" at {line}" if line else ""
        super().__init__(
            "capture",
            f"complex values in {target}{at}: {why}",
            remedy="write that part with real tensors: torch.view_as_real(z) gives both parts, and"
            " abs(), angle() and products of them are known",
            source=line,
        )


def is_complex(value: Any) -> bool:
    """True for a complex tensor, and a list that has one."""
    if isinstance(value, (tuple, list)):
        return any(map(is_complex, value))
    return isinstance(value, Tensor) and value.is_complex()


def touches_complex(node: Node) -> bool:
    """True for an op that reads or gives a complex value."""
    values = [node.meta.get("val"), *(source.meta.get("val") for source in node.all_input_nodes)]
    return any(map(is_complex, values))


def in_pairs(program: ExportedProgram) -> ExportedProgram:
    """The program on real values alone.

    Raises:
        NoRuleError: an op has no rule, and torch does not take it apart.
    """
    return _Pairs(program).run()


class _Pairs:
    def __init__(self, program: ExportedProgram):
        self.program = program
        self.graph = Graph()
        self.made: dict[Node, Any] = {}
        held = (node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder")
        self.mode: Any = next((v.fake_mode for v in held if hasattr(v, "fake_mode")), None)
        self.real_form: set[str] = set()

    def run(self) -> ExportedProgram:
        nodes = list(self.program.graph.nodes)
        placeholders = [node for node in nodes if node.op == "placeholder"]
        for node in placeholders:
            self.made[node] = self.graph.node_copy(node)
        for node in placeholders:
            if is_complex(node.meta.get("val")):
                self._weight(node)
        for node in nodes:
            if node.op == "output":
                self.graph.output(map_arg(node.args[0], self._node)).meta.update(node.meta)
            elif node.op != "placeholder":
                self._emit(node, self.made, node)
        self.graph.eliminate_dead_code()
        return self._program()

    def _node(self, node: Node) -> Node:
        made = self.made[node]
        if not isinstance(made, Node):
            raise NoRuleError(node, node.target, "the program returns them")
        return made

    def _weight(self, node: Node) -> None:
        """A complex weight in its real form, and its two parts."""
        held = self.made[node]
        self.real_form.add(node.name)
        with self.mode:
            held.meta["val"] = torch.view_as_real(node.meta["val"].resolve_conj())
        held.meta.pop("tensor_meta", None)
        parts = []
        for at in (0, 1):
            part = self.graph.call_function(torch.ops.aten.select.int, (held, -1, at))
            part.meta.update({key: node.meta[key] for key in _META if key in node.meta})
            with self.mode:
                part.meta["val"] = held.meta["val"].select(-1, at)
            parts.append(part)
        self.made[node] = Pair(*parts)

    def _emit(self, node: Node, made: dict[Node, Any], origin: Node) -> None:
        """Put what ``node`` becomes into the new graph; ``origin`` is the program's op it is of."""
        target = node.target
        if not touches_complex(node):
            new = self.graph.node_copy(node, lambda source: made[source])
            if node is not origin:
                new.meta.update({key: origin.meta[key] for key in _META if key in origin.meta})
            made[node] = new
            return
        if target is _METADATA:
            return
        source = node.args[0] if node.args else None
        if isinstance(source, Node) and isinstance(made.get(source), (list, tuple)):
            made[node] = made[source][node.args[1]]  # type: ignore[index]  # getitem
            return
        if not isinstance(node.meta.get("val"), Tensor | tuple | list):
            # A size of it.
            args = map_arg(node.args, lambda n: _first(made[n]))
            new = self.graph.call_function(target, args, dict(node.kwargs))  # type: ignore[arg-type]
            new.meta.update(node.meta)
            made[node] = new
            return
        rule = rule_of(target)
        if rule is not None:
            made[node] = self._ruled(node, rule, made, origin)
        else:
            made[node] = self._taken_apart(node, made, origin)

    def _taken_apart(self, node: Node, made: dict[Node, Any], origin: Node) -> Any:
        target: Any = node.target
        if not isinstance(target, torch._ops.OpOverload):
            raise NoRuleError(origin, target, "it is no op of torch")
        inputs, args, kwargs = _places(node)
        known = decomposition_table.get(target)
        values = [source.meta.get("val") for source in inputs]
        try:
            table = {} if known is None else {target: known}
            template = trace_op(target, args, kwargs, values, table, node)
        except LeftToTorch as reason:
            raise NoRuleError(origin, target, str(reason)[:300]) from reason
        if any(part.target is target for part in template.graph.nodes):
            raise NoRuleError(origin, target, "there is no rule for it")
        given = iter(inputs)
        inside: dict[Node, Any] = {}
        for part in template.graph.nodes:
            if part.op == "placeholder":
                inside[part] = made[next(given)]
            elif part.op == "call_function":
                self._emit(part, inside, origin)
        return tree_map(
            lambda held: inside[held] if isinstance(held, Node) else held, template.results
        )

    def _ruled(self, node: Node, rule: Any, made: dict[Node, Any], origin: Node) -> Any:
        inputs, args, kwargs = _places(node)
        held = [made[source] for source in inputs]
        flat = [part for each in held for part in _flat(each)]
        results: list[Any] = []

        def call(*given: Any) -> Any:
            parts = iter(given)
            known = [
                Pair(next(parts), next(parts)) if isinstance(each, Pair) else next(parts)
                for each in held
            ]
            filled, named = tree_map(
                lambda item: known[item.number] if isinstance(item, Operand) else item,
                (args, kwargs),
            )
            found = rule(*filled, **named)
            results.append(found)
            return [part for each in _listed(found) for part in _flat(each)]

        values = [part.meta.get("val") for part in flat]
        try:
            graph = trace_call(call, values, {}, f"'{node.name}' ({node.target})", self.mode)
        except LeftToTorch as reason:
            raise NoRuleError(origin, node.target, str(reason)[:300]) from reason
        parts = iter(self._pasted(graph, flat, origin))
        found = [
            Pair(next(parts), next(parts)) if isinstance(each, Pair) else next(parts)
            for each in _listed(results[-1])
        ]
        wanted = [is_complex(value) for value in _listed(node.meta["val"])]
        if [_is_pair(each) for each in found] != wanted:
            raise NoRuleError(origin, node.target, "its rule is not meant for it")
        return found if isinstance(results[-1], (list, tuple)) else found[0]

    def _pasted(self, graph: Graph, inputs: list[Node], origin: Node) -> Iterator[Any]:
        given = iter(inputs)
        here: dict[Node, Any] = {}
        for part in graph.nodes:
            if part.op == "placeholder":
                here[part] = next(given)
            elif part.op == "call_function":
                here[part] = self.graph.node_copy(part, lambda n: here[n])
                here[part].meta = {"val": part.meta.get("val")}
                here[part].meta.update({k: origin.meta[k] for k in _META if k in origin.meta})
            else:
                yield from map_arg(part.args[0], lambda n: here[n])

    def _program(self) -> ExportedProgram:
        program = self.program
        module = GraphModule(program.graph_module, self.graph)
        module.meta.update(program.graph_module.meta)
        signature = program.graph_signature
        named = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        keys = {named[name] for name in self.real_form}
        (output,) = (node for node in self.graph.nodes if node.op == "output")
        outputs = [
            replace(spec, arg=replace(spec.arg, name=after.name))
            if isinstance(after, Node)
            else spec
            for spec, after in zip(signature.output_specs, output.args[0], strict=True)
        ]
        return ExportedProgram(
            root=module,
            graph=self.graph,
            graph_signature=replace(signature, output_specs=outputs),
            state_dict={k: _stored(v, k in keys) for k, v in program.state_dict.items()},
            range_constraints=program.range_constraints,
            module_call_graph=program.module_call_graph,
            example_inputs=program.example_inputs,
            constants={k: _stored(v, k in keys) for k, v in program.constants.items()},
            verifiers=program.verifiers,
        )


def _stored(value: Any, real_form: bool) -> Any:
    if not real_form:
        return value
    held = torch.view_as_real(value.detach().resolve_conj())
    return nn.Parameter(held, requires_grad=False) if isinstance(value, nn.Parameter) else held


def _places(node: Node) -> tuple[list[Node], Any, Any]:
    """The nodes that an op reads, and its arguments with their places."""
    inputs: list[Node] = []

    def place(source: Node) -> Any:
        if source not in inputs:
            inputs.append(source)
        return Operand(inputs.index(source))

    return inputs, map_arg(node.args, place), map_arg(node.kwargs, place)


def _flat(held: Any) -> list[Any]:
    return [held.re, held.im] if isinstance(held, Pair) else [held]


def _is_pair(held: Any) -> bool:
    """True for a pair of real values; none for one of which a part is complex."""
    return isinstance(held, Pair) and not any(is_complex(n.meta.get("val")) for n in _flat(held))


def _first(held: Any) -> Any:
    return held.re if isinstance(held, Pair) else held


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (list, tuple)) else [found]
