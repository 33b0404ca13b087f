"""What stands between two joined values in either file, and what of it has changed, in words.

    expected   x -> ReduceMean -> Sub -> Pow -> ReduceMean -> ... -> Mul -> Add -> y
    actual     x -> LayerNormalization -> y           "LayerNormalization fused from nine nodes"

Where both have one operator between the same joined values, its attributes and weights are compared
bit for bit: what no number can show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from exporter.graph.attributes import attribute_values
from exporter.graph.compare_tensors import compare_initializers
from exporter.graph.index import GraphIndex
from exporter.graph.stored_tensors import whole_node
from exporter.joining.digests import MOVES
from exporter.joining.flow import Flow
from exporter.joining.joined import AS_IT_IS, Join, Joined

_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_SILENT = MOVES | {"Cast", "CastLike", "Dropout"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """A rewriting and how often it was done: operators of a piece in either file, sorted."""

    expected: tuple[str, ...]
    actual: tuple[str, ...]
    count: int

    def words(self) -> str:
        """``LayerNormalization fused from nine nodes (12 times)``."""
        ours, theirs = self.expected, self.actual
        times = f" ({self.count} times)" if self.count > 1 else ""
        if len(theirs) == 1 and len(ours) > 1:
            said = f"{theirs[0]} fused from {_count(len(ours))} nodes ({_listed(ours)})"
        elif len(ours) == 1 and len(theirs) > 1:
            said = f"{ours[0]} split into {_count(len(theirs))} nodes ({_listed(theirs)})"
        elif not theirs:
            said = f"{_listed(ours)} left out"
        elif not ours:
            said = f"{_listed(theirs)} put in"
        else:
            said = f"{_listed(ours)} written as {_listed(theirs)}"
        return said + times


@dataclass(frozen=True, slots=True, kw_only=True)
class Altered:
    """A weight or an attribute of an operator that both files have in one place.

    Attributes:
        join: the value that the operator computes.
        what: name of the attribute or weight. weight: which of them it is.
        index, count, size: of a weight, where the largest difference is, and how many differ.
    """

    join: Join
    op: str
    what: str
    weight: bool
    expected: str
    actual: str
    index: tuple[int, ...] | None = None
    count: int | None = None
    size: int | None = None

    def words(self) -> str:
        """``weight 'w' of MatMul: 0.5 at [3, 5] -> 0.6 at [3, 5] (1 of 8,192 elements)``."""
        kind = "weight" if self.weight else "attribute"
        many = f" ({self.count:,} of {self.size:,} elements)" if self.count and self.size else ""
        return f"{kind} '{self.what}' of {self.op}: {self.expected} -> {self.actual}{many}"


def rewritten(expected: GraphIndex, actual: GraphIndex, joined: Joined) -> tuple[Rewritten, ...]:
    """Pieces that the two files write with other operators, the most frequent first."""
    ours = {join.expected for join in joined.joins}
    theirs = {join.actual for join in joined.joins}
    moving = Flow(expected).variable, Flow(actual).variable
    found: Counter[tuple[tuple[str, ...], tuple[str, ...]]] = Counter()
    for join in joined.joins:
        left = _piece(expected, join.expected, ours, moving[0])
        right = _piece(actual, join.actual, theirs, moving[1])
        if left != right:
            found[left, right] += 1
    return tuple(
        Rewritten(expected=left, actual=right, count=count)
        for (left, right), count in sorted(found.items(), key=lambda held: (-held[1], held[0]))
    )


def _piece(
    graph: GraphIndex, name: str, stops: Collection[str], moving: Collection[str]
) -> tuple[str, ...]:
    """Operators between a value and the nearest joined ones.

    Those that only move elements, and those that compute sizes, are left out.
    """
    nodes: set[int] = set()
    stack = [name]
    while stack:
        at = graph.producer.get(stack.pop())
        if at is None or at in nodes:
            continue
        nodes.add(at)
        stack += [read for read in graph.reads[at] if read in moving and read not in stops]
    kinds = (graph.nodes[at].op_type for at in nodes)
    return tuple(sorted(kind for kind in kinds if kind not in _SILENT))


def altered(expected: GraphIndex, actual: GraphIndex, joined: Joined) -> Iterator[Altered]:
    """Weights and attributes that differ where both files have the same operator."""
    # Of a value that is laid out in another way, weights and axes are in another order as well.
    as_they_are = [join for join in joined.joins if join.layout == AS_IT_IS]
    to_expected = {join.actual: join.expected for join in as_they_are}
    for join in as_they_are:
        left, right = expected.producer.get(join.expected), actual.producer.get(join.actual)
        if left is None or right is None:
            continue
        ours, theirs = expected.nodes[left], actual.nodes[right]
        if not _one_place(expected, actual, ours, theirs, to_expected):
            continue
        yield from _weights(expected, actual, ours, theirs, join)
        if theirs.op_type not in MOVES:
            yield from _attributes(expected, actual, ours, theirs, join)


def _one_place(
    expected: GraphIndex,
    actual: GraphIndex,
    ours: onnx.NodeProto,
    theirs: onnx.NodeProto,
    to_expected: dict[str, str],
) -> bool:
    """The same operator that reads the same joined values and inputs, and constants as well."""
    if (ours.op_type, ours.domain, len(ours.input)) != (
        theirs.op_type,
        theirs.domain,
        len(theirs.input),
    ):
        return False
    for one, other in _operands(expected, actual, ours, theirs):
        if (one in expected.initializers) != (other in actual.initializers):
            return False
        if one in expected.initializers or (not one and not other):
            continue
        if to_expected.get(other, other if other in actual.inputs else None) != one:
            return False
    return True


def _operands(
    expected: GraphIndex, actual: GraphIndex, ours: onnx.NodeProto, theirs: onnx.NodeProto
) -> Iterator[tuple[str, str]]:
    """What both nodes read; a constant that has several names by its first one."""
    for one, other in zip(ours.input, theirs.input, strict=True):
        yield _constant(expected, one), _constant(actual, other)


def _constant(graph: GraphIndex, name: str) -> str:
    at = name
    while at in graph.producer and graph.nodes[graph.producer[at]].op_type == "Identity":
        at = graph.nodes[graph.producer[at]].input[0]
    return at if at in graph.initializers else name


def _weights(
    expected: GraphIndex,
    actual: GraphIndex,
    ours: onnx.NodeProto,
    theirs: onnx.NodeProto,
    join: Join,
) -> Iterator[Altered]:
    for one, other in _operands(expected, actual, ours, theirs):
        if one not in expected.initializers or other not in actual.initializers:
            continue
        left, right = expected.initializers[one], actual.initializers[other]
        # Another precision or another layout of the weights is for the numbers to judge.
        if (left.data_type, tuple(left.dims)) != (right.data_type, tuple(right.dims)):
            continue
        change = compare_initializers(expected, actual, one, other)
        if change is None or not np.issubdtype(expected.array(one).dtype, np.floating):
            continue
        yield Altered(
            join=join,
            op=theirs.op_type,
            what=other,
            weight=True,
            expected=change.expected,
            actual=change.actual,
            index=change.index,
            count=change.count,
            size=change.size,
        )


def _attributes(
    expected: GraphIndex,
    actual: GraphIndex,
    ours: onnx.NodeProto,
    theirs: onnx.NodeProto,
    join: Join,
) -> Iterator[Altered]:
    versions = [_version(graph, ours.domain) for graph in (expected, actual)]
    if not _same_schema(ours, *versions):
        return
    whole = whole_node(ours, expected.take_in), whole_node(theirs, actual.take_in)
    left, right = (attribute_values(n, v) for n, v in zip(whole, versions, strict=True))
    for name in sorted(left.keys() & right.keys()):
        if left[name].bits != right[name].bits:
            yield Altered(
                join=join,
                op=theirs.op_type,
                what=name,
                weight=False,
                expected=left[name].text,
                actual=right[name].text,
            )


def _version(graph: GraphIndex, domain: str) -> int:
    held = {item.domain: item.version for item in graph.model.opset_import}
    return held.get(domain, 0)


def _same_schema(node: onnx.NodeProto, first: int, second: int) -> bool:
    if first == second:
        return True
    try:
        schemas = [onnx.defs.get_schema(node.op_type, v, node.domain) for v in (first, second)]
    except onnx.defs.SchemaError:
        return False
    return schemas[0].since_version == schemas[1].since_version


def _count(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def _listed(ops: tuple[str, ...]) -> str:
    counted = Counter(ops)
    return ", ".join(f"{n} {op}" if n > 1 else op for op, n in counted.items())


def left_out_in_words(joined: Joined) -> list[str]:
    """What is not compared, and why."""
    found = [f"{name}: {why}" for name, why in sorted(joined.missing.items())]
    found += [item.words() for item in joined.covered]
    for names, what in (
        (joined.unseen, "values that are not joined and lead to decisions alone"),
        (joined.ambiguous, "values that agree with several of the other file's"),
        (joined.alone, "values that the other file has none for"),
    ):
        if names:
            found.append(f"{len(names)} {what}: {', '.join(names[:5])}")
    return found
