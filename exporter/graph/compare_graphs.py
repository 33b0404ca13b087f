"""Compare two ONNX graphs exactly, where one descends from the other.

Numbers cannot see everything: an epsilon in a deep block, a threshold that no probability
crosses, a weight element that no input reaches. So a file that descends from our own export is
also compared as structure: operators, inputs, attributes, constants and weights, bit for bit.

Nodes are joined by the names of the values that they produce, never by position, node name or
resemblance. Where a node reads an initialiser, its value counts and not its name. Names of nodes,
doc strings, metadata, the order of independent nodes and initialisers that nobody reads do not
matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import onnx

from exporter.graph.attributes import attribute_values, input_label, plain_bytes
from exporter.graph.compare_tensors import TensorChange, compare_initializers, describe
from exporter.graph.difference_kinds import ABSENT, Difference, Kind
from exporter.graph.index import GraphIndex
from exporter.graph.nearest import NearestTap
from exporter.graph.stored_tensors import whole_node


def diff_structure(
    expected: GraphIndex, actual: GraphIndex, *, taps: Collection[str] | None = None
) -> tuple[Difference, ...]:
    """List all differences, in the order of the expected graph.

    Weights are compared in memory (external ones where they are mapped); nothing is serialised.

    Args:
        expected: the graph as it was exported.
        actual: the graph under test.
        taps: names of values that people know. ``Difference.tap`` is then the nearest of them at
            or behind the node; without ``taps`` it is the node's own first output.
    """
    return tuple(_Diff(expected, actual, None if taps is None else frozenset(taps)).run())


class _Diff:
    """State of one comparison."""

    def __init__(self, expected: GraphIndex, actual: GraphIndex, taps: frozenset[str] | None):
        self.expected = expected
        self.actual = actual
        self.nearest = NearestTap(expected, taps)
        self.nearest_in_actual = NearestTap(actual, taps)
        self.versions = {entry.domain: entry.version for entry in expected.model.opset_import}
        # Pair of initialisers -> the nodes that read it; a shared one is compared once.
        self.readers: dict[tuple[str, str], list[onnx.NodeProto]] = {}

    def run(self) -> Iterator[Difference]:
        yield from _file_differences(self.expected.model, self.actual.model)
        yield from self._interface()
        matched: set[int] = set()
        for node in self.expected.nodes:
            changed = {
                self.actual.producer[name] for name in node.output if name in self.actual.producer
            }
            matched |= changed
            if not changed:
                yield self._missing(node)
                continue
            partner = self.actual.nodes[min(changed)]
            if len(changed) > 1 or _outputs(node) != _outputs(partner):
                texts = ", ".join(_outputs(node)), ", ".join(_outputs(partner))
                yield self._at(node, Kind.OUTPUTS_CHANGED, "outputs", *texts)
            yield from self._pair(node, partner)
        for position, node in enumerate(self.actual.nodes):
            if position not in matched:
                tap = self.nearest_in_actual.of(node)
                yield Difference(
                    kind=Kind.NODE_ADDED,
                    node=_label(node),
                    op=node.op_type,
                    name=_label(node),
                    expected=ABSENT,
                    actual=_call(node),
                    tap=tap,
                )
        for names, readers in self.readers.items():
            yield from self._initializers(names, readers)

    def _missing(self, node: onnx.NodeProto) -> Difference:
        folded = [name for name in node.output if name in self.actual.initializers]
        now = ABSENT
        if folded:
            now = f"a constant: {describe(self.actual, folded[0])}"
        return self._at(node, Kind.NODE_MISSING, _label(node), _call(node), now)

    def _pair(self, node: onnx.NodeProto, partner: onnx.NodeProto) -> Iterator[Difference]:
        same_op = (node.op_type, node.domain) == (partner.op_type, partner.domain)
        if not same_op:
            yield self._at(node, Kind.OP_CHANGED, "op", _call(node), _call(partner))
        for slot in range(max(len(node.input), len(partner.input))):
            yield from self._input(node, partner, slot)
        if not same_op:
            return
        version = self.versions.get(node.domain, 0)
        wanted, present = (
            attribute_values(side, version)
            for side in (
                whole_node(node, self.expected.take_in),
                whole_node(partner, self.actual.take_in),
            )
        )
        for name in [*wanted, *(name for name in present if name not in wanted)]:
            # Bits decide, not "==": it would pass -0.0 for 0.0 and fail NaN.
            left, right = wanted.get(name), present.get(name)
            if (left and left.bits) != (right and right.bits):
                texts = (side.text if side else ABSENT for side in (left, right))
                yield self._at(node, Kind.ATTRIBUTE, name, *texts)

    def _input(
        self, node: onnx.NodeProto, partner: onnx.NodeProto, slot: int
    ) -> Iterator[Difference]:
        left = node.input[slot] if slot < len(node.input) else ""
        right = partner.input[slot] if slot < len(partner.input) else ""
        stored = left in self.expected.initializers, right in self.actual.initializers
        if all(stored):
            self.readers.setdefault((left, right), []).append(node)
        elif left != right or any(stored):
            label = input_label(node, slot, self.versions.get(node.domain, 0))
            texts = describe(self.expected, left), describe(self.actual, right)
            difference = self._at(
                node, Kind.INPUTS_CHANGED, label, *(text or ABSENT for text in texts)
            )
            yield replace(difference, stored=stored)

    def _initializers(
        self, names: tuple[str, str], readers: list[onnx.NodeProto]
    ) -> Iterator[Difference]:
        change: TensorChange | None = compare_initializers(self.expected, self.actual, *names)
        if change is None:
            return
        reached = [self.nearest.of(node) for node in readers]
        distinct = list(dict.fromkeys(name for name in reached if name is not None))
        yield Difference(
            kind=change.kind,
            node=_label(readers[0]),
            op=readers[0].op_type,
            name=names[0],
            expected=change.expected,
            actual=change.actual,
            tap=distinct[0] if distinct else None,
            also=tuple(distinct[1:]),
            index=change.index,
            count=change.count,
            size=change.size,
            values=tuple(_outputs(node)[0] for node in readers),
            note=change.note,
        )

    def _at(
        self, node: onnx.NodeProto, kind: Kind, name: str, expected: str, actual: str
    ) -> Difference:
        return Difference(
            kind=kind,
            node=_label(node),
            op=node.op_type,
            name=name,
            expected=expected,
            actual=actual,
            tap=self.nearest.of(node),
            values=_outputs(node)[:1],
        )

    def _interface(self) -> Iterator[Difference]:
        for side in ("input", "output"):
            wanted = _interface_of(self.expected, side)
            present = _interface_of(self.actual, side)
            for name in [*wanted, *(name for name in present if name not in wanted)]:
                texts = wanted.get(name, ABSENT), present.get(name, ABSENT)
                if texts[0] != texts[1]:
                    yield _whole(Kind.INTERFACE, f"{side} '{name}'", *texts, tap=name)
            if wanted.keys() == present.keys() and list(wanted) != list(present):
                yield _whole(
                    Kind.INTERFACE, f"order of {side}s", ", ".join(wanted), ", ".join(present)
                )


def _file_differences(expected: onnx.ModelProto, actual: onnx.ModelProto) -> Iterator[Difference]:
    sides = []
    for model in (expected, actual):
        opsets = {entry.domain or "ai.onnx": str(entry.version) for entry in model.opset_import}
        functions = {f"{f.domain}.{f.name}": f for f in model.functions}
        sides.append((opsets, functions))
    (wanted, wanted_functions), (present, present_functions) = sides
    for domain in sorted(wanted.keys() | present.keys()):
        texts = wanted.get(domain, ABSENT), present.get(domain, ABSENT)
        if texts[0] != texts[1]:
            yield _whole(Kind.OPSET, domain, *texts)
    for name in sorted(wanted_functions.keys() | present_functions.keys()):
        left, right = wanted_functions.get(name), present_functions.get(name)
        if left is None or right is None or plain_bytes(left) != plain_bytes(right):
            texts = (
                ABSENT if side is None else f"{len(side.node)} nodes" for side in (left, right)
            )
            yield _whole(Kind.FUNCTION, name, *texts)


def _whole(
    kind: Kind, name: str, expected: str, actual: str, *, tap: str | None = None
) -> Difference:
    return Difference(
        kind=kind, node="", op="", name=name, expected=expected, actual=actual, tap=tap
    )


def _interface_of(graph: GraphIndex, side: str) -> dict[str, str]:
    """Name -> dtype and shape. Symbolic sizes are all ``?``: their names carry no meaning."""
    interface = {}
    for value in getattr(graph.model.graph, side):
        if side == "input" and value.name in graph.initializers:
            continue
        kind = value.type.tensor_type
        dtype = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        shape = "of unknown rank"
        if kind.HasField("shape"):
            sizes = [str(d.dim_value) if d.HasField("dim_value") else "?" for d in kind.shape.dim]
            shape = f"[{', '.join(sizes)}]"
        interface[value.name] = f"{dtype} {shape}"
    return interface


def _outputs(node: onnx.NodeProto) -> tuple[str, ...]:
    return tuple(name for name in node.output if name)


def _label(node: onnx.NodeProto) -> str:
    return node.name or f"{node.op_type} of '{(*_outputs(node), '')[0]}'"


def _call(node: onnx.NodeProto) -> str:
    return f"{node.op_type}({', '.join(name or ABSENT for name in node.input)})"
