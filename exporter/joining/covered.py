"""Values of which an operator lets a part through: other numbers show what it keeps back.

    A   x -> [linear] -> a -> [relu] -> b
    B   x -> [linear, a bias far below zero wrong] -> v -> [relu] -> w

w is b on all that was run, for what differs is below zero; v agrees with nothing, and w does not
speak for it. So both pieces, from the nearest joined values on, are fed other numbers, of both
signs and many sizes. A healthy piece gives the same of them, however it is written. Where two part,
there may be inputs that make them part as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.core.operators import is_standard
from exporter.joining.by_value import Joiner
from exporter.joining.evaluate import Values, evaluate, wide
from exporter.joining.flow import Flow
from exporter.joining.joined import Covered, Join, Proof
from exporter.joining.match import closest

_COVERING = frozenset({"Relu", "ThresholdedRelu", "Clip", "Max", "Min", "MaxPool", "GlobalMaxPool"})
_COVERING |= {"Floor", "Ceil", "Round", "Sign"}
_APART, _APART_IN_FLOAT32 = 1e-4, 1e-3
"""Of the root mean square: more than weights folded in float32 move an element by."""
_MARGIN = 30.0
"""How much more than a rounding in front of a piece makes of its value."""
_SIZES = (1.0, 10.0, 100.0, 30.0, 3.0, 0.1, 300.0, 3000.0)
"""How much larger the other numbers are than what the files have there."""

Arrays = Sequence[np.ndarray]
Fed = dict[str, Arrays]


def covered(joiner: Joiner) -> tuple[Covered, ...]:
    """Joined values that agree, and in front of which the files are not the same function."""
    pieces = _Pieces(joiner)
    agreeing = [join for join in joiner.joins.values() if join.proof is Proof.VALUE]
    return tuple(held for join in agreeing if (held := pieces.covered(join)) is not None)


@dataclass(frozen=True, slots=True)
class _Piece:
    """The nodes that compute a value; the nearest joined values and inputs, where they start."""

    nodes: list[int]
    front: list[str]


class _Pieces:
    """What stands between joined values in either file."""

    def __init__(self, joiner: Joiner):
        self.joiner = joiner
        self.a, self.b = joiner.a, joiner.b
        proved = [join for join in joiner.joins.values() if join.proof is not Proof.NONE]
        # A value of A is one and the same in each of its shapes.
        keys = {self._key(join.expected) for join in proved}
        self.known_a = {name for name in self.a.order if self._key(name) in keys}
        self.known_b = {join.actual for join in proved}

    def covered(self, join: Join) -> Covered | None:
        """What is kept back in front of a joined value and differs; None where nothing is."""
        itself = self._key(join.expected)
        theirs = _piece(self.b, join.actual, self.known_b.__contains__)
        ours = _piece(self.a, join.expected, lambda n: n in self.known_a and self._key(n) != itself)
        lost_ours = list(self._lost(self.a, ours, self.known_a, self.joiner.values_a))
        lost = [*self._lost(self.b, theirs, self.known_b, self.joiner.values_b), *lost_ours]
        if not lost or not self._part(join, ours, theirs):
            return None
        value, op = lost[0]
        own = lost_ours[0][0] if lost_ours else join.expected
        return Covered(expected=join.expected, actual=join.actual, value=value, own=own, op=op)

    def _key(self, name: str) -> bytes:
        digests = self.joiner.digests
        return digests.of(digests.root(name))

    def _lost(
        self, flow: Flow, piece: _Piece, known: Collection[str], values: Values
    ) -> Iterator[tuple[str, str]]:
        """Values that are not joined and are read by an operator that covers; the operator."""
        digests = self.joiner.digests if flow is self.a else self.joiner.digests_b
        for at in piece.nodes:
            node = flow.graph.nodes[at]
            if node.op_type not in _COVERING or not is_standard(node):
                continue
            for name in node.input:
                root, arrays = digests.root(name), values.get(name)
                if name not in flow.variable or root in known or root in flow.inputs:
                    continue
                if arrays is not None and arrays[0].dtype.kind == "f":
                    yield name, node.op_type

    def _part(self, join: Join, ours: _Piece, theirs: _Piece) -> bool:
        """Whether both pieces give different values of the same other numbers."""
        sets = len(self.joiner.inputs)
        for first in range(0, len(_SIZES), sets):
            sizes = [_SIZES[at % len(_SIZES)] for at in range(first, first + sets)]
            fed = self._fed(ours, theirs, sizes)
            if fed is None:
                return False
            if self._part_on(join, ours, theirs, fed):
                return True
        return False

    def _part_on(self, join: Join, ours: _Piece, theirs: _Piece, fed: tuple[Fed, Fed]) -> bool:
        joiner = self.joiner
        left = self._run(self.a, join.expected, ours, joiner.inputs_a, joiner.values_a, fed[0])
        right = self._run(self.b, join.actual, theirs, joiner.inputs, joiner.values_b, fed[1])
        if left is None or right is None:
            return False
        coarse = left[1] or right[1]
        limit, rounding = (_APART_IN_FLOAT32, 1e-5) if coarse else (_APART, 1e-6)
        moved: Fed = {
            name: [_moved(array, rounding) for array in held] for name, held in fed[0].items()
        }
        beside = self._run(self.a, join.expected, ours, joiner.inputs_a, joiner.values_a, moved)
        if beside is None:
            return False
        pairs = [(a, join.layout.undo(b, a.shape)) for a, b in zip(left[0], right[0], strict=True)]
        # A logarithm of what crosses zero, or a rounding, turns any rounding in front into more.
        steep = max(_apart(a, b) for a, b in zip(left[0], beside[0], strict=True))
        return max(_apart(a, b) for a, b in pairs) > max(limit, _MARGIN * steep)

    def _run(
        self,
        flow: Flow,
        name: str,
        piece: _Piece,
        inputs: Sequence[Mapping[str, np.ndarray]],
        given: Values,
        fed: Fed,
    ) -> tuple[Arrays, bool] | None:
        """The value that a piece computes, and whether float32 alone was to be had of it."""
        values = Values(given.folder)
        made = evaluate(flow.graph, inputs, values, nodes=piece.nodes, given=given, forced=fed)
        found = values.get(name)
        return None if found is None else (found, bool(made.coarse))

    def _fed(self, ours: _Piece, theirs: _Piece, sizes: Sequence[float]) -> tuple[Fed, Fed] | None:
        """Other numbers for where both pieces start; None where that is not the same.

        Args:
            sizes: how much larger than the files' own, for each set of inputs.
        """
        joiner, random = self.joiner, np.random.default_rng(5)
        fed_a, fed_b = Fed(), Fed()
        for name in ours.front:
            pairs = zip(self._own(name), sizes, strict=True)
            fed_a[name] = [_other(random, array, size) for array, size in pairs]
        by_key = {self._key(name): name for name in ours.front}
        met = set()
        for name in theirs.front:
            join = joiner.joins.get(name)
            its = join.expected if join is not None else joiner.names[name]
            start = by_key.get(self._key(its))
            if start is None:
                return None
            met.add(start)
            arrays = fed_a[start] if start == its else self._shown(start, its, fed_a[start])
            if arrays is None:
                return None
            if join is not None:
                held = zip(arrays, joiner.values_b[name], strict=True)
                arrays = [join.layout.apply(array, there.shape) for array, there in held]
            fed_b[name] = arrays
        return (fed_a, fed_b) if met == set(ours.front) else None

    def _own(self, name: str) -> Arrays:
        """A value or an input of A."""
        if name in self.a.inputs:
            return [wide(np.asarray(held[name])) for held in self.joiner.inputs_a]
        return self.joiner.values_a[name]

    def _shown(self, start: str, its: str, arrays: Arrays) -> Arrays | None:
        """Numbers of one value of A in the shape and order of another that shows it."""
        there = self._own(its)
        found = closest(self._own(start), there)
        if found is None:
            return None
        return [found[0].apply(a, held.shape) for a, held in zip(arrays, there, strict=True)]


def _piece(flow: Flow, name: str, known: Callable[[str], bool]) -> _Piece:
    nodes: set[int] = set()
    front: set[str] = set()
    stack = [name]
    while stack:
        at = flow.graph.producer.get(stack.pop())
        if at is None or at in nodes:
            continue
        nodes.add(at)
        for read in flow.graph.reads[at]:
            if read in flow.inputs or known(read):
                front.add(read)
            elif read in flow.variable:
                stack.append(read)
    return _Piece(sorted(nodes), sorted(front))


def _other(random: np.random.Generator, array: np.ndarray, size: float) -> np.ndarray:
    """Floats: noise of both signs, so many times as large. All else as it is."""
    if array.dtype.kind != "f" or not array.size:
        return array
    own = np.sqrt(np.mean(np.square(array, dtype=np.float64)))
    noise = random.standard_normal(array.shape)
    return np.asarray(size * noise * (own if np.isfinite(own) and own else 1.0))


def _moved(array: np.ndarray, by: float) -> np.ndarray:
    """Floats moved at random by so much of themselves."""
    if array.dtype.kind != "f":
        return array
    return np.asarray(array * (1 + by * np.random.default_rng(7).standard_normal(array.shape)))


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference of an element, over the root mean square of all."""
    if ours.dtype.kind != "f" or not ours.size:
        return 0.0
    finite = np.isfinite(ours) & np.isfinite(theirs)
    one, other = (np.where(finite, held, 0.0) for held in (ours, theirs))
    size = float(np.sqrt(max(np.mean(one**2), np.mean(other**2))))
    return float(np.max(np.abs(one - other))) / (size or 1.0)
