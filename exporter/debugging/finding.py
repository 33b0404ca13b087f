"""One thing that is wrong, in words that a person can act on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from onnx import TensorProto

from exporter.core.tensors import Tap
from exporter.debugging.located_differences import Located
from exporter.debugging.origin import constant_behind, parameter_of
from exporter.debugging.pair import Pair
from exporter.graph.difference_kinds import ABSENT, Difference, Kind
from exporter.graph.index import GraphIndex
from exporter.judge.layer_results import JudgedTap

_NOWHERE = Tap(name="", module="", module_class="", op="", source="")
KERNEL, GRAPH, INPUT, ADDED_UP = "kernel", "graph", "input", "added up"
"""Kinds beyond those of ``difference_kinds.Kind``: found by numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What differs, and where.

    Attributes:
        kind: a kind of ``difference_kinds.Kind``, or "kernel" (onnxruntime computes the op
            wrongly), "graph" (the ops themselves compute something else), "input" (what enters
            the layer is wrong already) or "added up" (small errors of several layers).
        layer, op, tap, source: place in PyTorch; "" for the whole file.
        node: the ONNX node, or the fused region.
        thing: name of the attribute, weight, constant or input that differs; "" for none.
        expected, actual: both values; "" where there are none.
        clauses: what is wrong, and after it what else is to be said.
        shown: True when a number shows it on this case.
        located: the structural difference behind it.
        whole: the layer fails as one, although none of its ops does.
    """

    kind: str
    layer: str
    op: str
    tap: str
    source: str
    node: str
    thing: str
    expected: str
    actual: str
    clauses: tuple[str, ...]
    shown: bool
    located: Located | None = None
    whole: bool = False

    @property
    def text(self) -> str:
        """One sentence."""
        return "; ".join(clause for clause in self.clauses if clause)


def at_tap(tap: Tap, kind: str, *clauses: str, **more: Any) -> Finding:
    """A finding at one tap that a number shows.

    Args:
        more: further attributes of ``Finding``.
    """
    texts = {"node": "", "thing": "", "expected": "", "actual": "", "shown": True, **more}
    place = {"layer": tap.module, "op": tap.op, "tap": tap.name, "source": tap.source}
    return Finding(kind=kind, clauses=clauses, **place, **texts)


def from_difference(pair: Pair, at: Located, rows: tuple[JudgedTap, ...]) -> Finding:
    """A finding for one structural difference.

    Args:
        rows: failing taps whose piece holds the difference.
    """
    d = _in_own_words(pair, at)
    tap = at.taps[0].tap if at.taps else _NOWHERE
    clauses = describe(pair, d)
    if len(at.taps) > 1:
        clauses += (f"also read for {', '.join(repr(t.tap.name) for t in at.taps[1:4])}",)
    if not rows:
        clauses += ("no number shows it on this case",)
    node = f"{d.op} '{d.node}'" if d.op else "the whole file"
    both = {"thing": d.name, "expected": d.expected, "actual": d.actual}
    return at_tap(tap, d.kind, *clauses, node=node, shown=bool(rows), located=at, **both)


def _in_own_words(pair: Pair, at: Located) -> Difference:
    """The difference with parameters by their names and handed-on constants by their values."""
    d = at.difference
    if d.kind is Kind.INPUTS_CHANGED:
        (expected, was), (actual, now) = (
            _with_constant(graph, text, stored)
            for graph, text, stored in zip(
                (pair.expected, pair.actual), (d.expected, d.actual), d.stored, strict=True
            )
        )
        return replace(d, expected=expected, actual=actual, stored=(was, now))
    if d.kind in (Kind.WEIGHT, Kind.DTYPE, Kind.SHAPE) and at.taps:
        parameter = parameter_of(pair, d.name, at.taps[0].tap.name)
        return replace(d, name=f"{d.name} ({parameter})") if parameter else d
    return d


def _with_constant(graph: GraphIndex, name: str, stored: bool) -> tuple[str, bool]:
    """An input with the constant that is handed on to it, and whether it is one."""
    constant = None if stored else constant_behind(graph, name)
    return (name, stored) if constant is None else (f"{name} = {constant}", True)


def describe(pair: Pair, d: Difference) -> tuple[str, ...]:
    """What differs, with both values, and what that looks like."""
    where = f"{d.op} '{d.node}'"
    if d.kind in (Kind.WEIGHT, Kind.CONSTANT) and d.note:
        return _both(d, where), f"it is {d.note}"
    if d.kind is Kind.NODE_ADDED:
        return f"{where} was added: {d.actual}", _cast(pair, d)
    return (_both(d, where),)


def _both(d: Difference, where: str) -> str:
    stored = f"{d.kind} '{d.name}' of {where} differs"
    said = {
        Kind.WEIGHT: stored,
        Kind.CONSTANT: stored,
        Kind.ATTRIBUTE: f"attribute '{d.name}' of {where} differs",
        Kind.DTYPE: f"dtype of '{d.name}', read by {where}, differs",
        Kind.SHAPE: f"shape of '{d.name}', read by {where}, differs",
        Kind.NODE_MISSING: f"{where} is missing",
        Kind.OP_CHANGED: f"{where} is another operator",
        Kind.INPUTS_CHANGED: _changed_input(d, where),
        Kind.OUTPUTS_CHANGED: f"outputs of {where} differ",
        Kind.INTERFACE: f"{d.name} of the graph differs",
    }
    what = said.get(d.kind, f"{d.kind} '{d.name}' differs")
    counted = said.get(d.kind) == stored and d.count and d.size
    share = f" ({d.count:,} of {d.size:,} elements differ)" if counted else ""
    return f"{what}: {d.actual} in the file, {d.expected} as exported{share}"


def _changed_input(d: Difference, where: str) -> str:
    was_constant, is_constant = d.stored
    baked = is_constant and not was_constant and d.expected != ABSENT
    if baked and d.op in _SHAPED:
        return f"a shape is baked in: {d.name} of {where} was computed, now is constant"
    if baked:
        return f"{d.name} of {where} was computed, now is constant (baked in)"
    return f"{d.name} of {where} {'is missing' if d.actual == ABSENT else 'differs'}"


_SHAPED = frozenset(
    {"Reshape", "Expand", "Tile", "Slice", "Range", "ConstantOfShape", "Pad", "Resize"}
)


def _cast(pair: Pair, d: Difference) -> str:
    if d.op != "Cast":
        return ""
    node = pair.actual.nodes[pair.actual.producer[d.tap]] if d.tap else None
    to = next((a.i for a in node.attribute if a.name == "to"), 0) if node else 0
    return f"the dtype there becomes {TensorProto.DataType.Name(to).lower()}" if to else ""
