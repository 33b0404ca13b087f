"""Values that do not agree, and stand in the place of one that should: found by what is behind.

    A   x -> [linear] -> a -> [gelu] -> [linear] -> b
    B   x -> [linear, one weight wrong] -> v -> [gelu] -> [linear] -> w

v agrees with nothing, and w with nothing, for the fault is in it. Fed a in the place of v, B
computes b at w: so v stands for a. A wrong a' would have to give a value of A's behind the next
weights as well, and where two do so equally far, nobody is named.

    B   x -> [linear, one weight wrong] -> v -> [split] -> query, key, value

Where a part of v agrees and another does not, v is where they part: what is fed there must give all
that agrees already once more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from exporter.joining.by_value import EXACT, MARGIN, Joiner
from exporter.joining.digests import is_large
from exporter.joining.evaluate import Values
from exporter.joining.joined import Layout, Proof
from exporter.joining.match import Match

_LOOK_AHEAD = 48
"""Nodes behind a value that are computed to see whether it stands for another."""
_CANDIDATES = 6
MOST_TRIED = 400
"""Looks ahead in all: files that have little in common end there."""


@dataclass(frozen=True, slots=True)
class _Try:
    """A value of A in the place of one of B: what agrees behind it then, and how good a fit."""

    name: str
    layout: Layout
    distance: float
    agreeing: int
    anchored: int
    overlap: float


class Roles:
    """Finds the joins that are proved by role; adds them to the joiner's."""

    def __init__(self, joiner: Joiner):
        self.joiner = joiner
        self.a, self.b = joiner.a, joiner.b
        self.tried = 0
        self.forced: dict[str, list[np.ndarray]] = {}
        self.fed: dict[str, bytes] = {}

    def find(self) -> None:
        seen: set[str] = set()
        while self.tried < MOST_TRIED:
            name = next((n for n in self.b.order if n not in seen and self._is_lost(n)), None)
            if name is None:
                return
            # In front of what is lost may be what it is a part of.
            for one in (*self._in_front_of(name, seen), name):
                seen.add(one)
                role = self._role(one)
                if role is not None:
                    match = Match(name=role.name, layout=role.layout, distance=role.distance)
                    self.joiner.take(one, match, self.joiner.how(one, role.name), Proof.ROLE)
                    self._feed(one, role)
                    break

    def _proved(self, name: str) -> bool:
        return self.joiner.is_proved(name)

    def _is_lost(self, name: str) -> bool:
        """A value that depends on the inputs and leads to no joined one but by unjoined ones."""
        return self._is_open(name) and not self.joiner.is_seen(name, proved=True)

    def _is_open(self, name: str) -> bool:
        """A value that depends on the inputs, and is joined with none."""
        if name not in self.b.variable or self._proved(name) or name in self.joiner.ambiguous:
            return False
        if name not in self.joiner.values_b or name in self.joiner.hidden:
            return False
        # An input in another shape or type is what it is.
        return self.joiner.digests_b.root(name) not in self.b.inputs

    def _in_front_of(self, name: str, seen: Collection[str]) -> list[str]:
        """Unjoined values that a lost one is computed from, by unjoined ones, in order."""
        reached, stack = {name}, [name]
        while stack:
            for read in self.b.reads(stack.pop()):
                if read not in reached and read in self.b.variable and not self._proved(read):
                    reached.add(read)
                    stack.append(read)
        reached -= {name, *seen}
        return [one for one in self.b.order if one in reached and self._is_open(one)]

    def _parts(self, name: str) -> list[str]:
        """The nearest joined values that speak for a value; decisions speak for none in floats."""
        parts, reached, stack = [], {name}, [name]
        while stack:
            for made in self.b.made_from(stack.pop()):
                if made not in reached:
                    reached.add(made)
                    (parts if self._proved(made) else stack).append(made)
        held = self.joiner.values_b
        floating = _kind(held[name][0]) == "f"
        return [made for made in parts if not floating or _kind(held[made][0]) == "f"]

    def _role(self, name: str) -> _Try | None:
        rated = []
        for candidate, overlap in self._candidates(name):
            self.tried += 1
            best = self._try(name, candidate, overlap)
            if best is not None and best.anchored:
                rated.append(best)
        rated.sort(key=lambda item: (-item.anchored, -item.agreeing, -item.overlap))
        if not rated:
            return None
        if len(rated) > 1:
            first, second = rated[:2]
            ahead = (first.anchored, first.agreeing, first.overlap)
            same = self._digest(first.name) == self._digest(second.name)
            if ahead == (second.anchored, second.agreeing, second.overlap) and not same:
                self.joiner.ambiguous.add(name)
                return None
        if self.joiner.has_double(rated[0].name):
            # Fed the other one, the file would compute the same.
            self.joiner.ambiguous.add(name)
            return None
        best = rated[0]
        doubtful = self._is_in_front(name, best) or not self._matters(name, best)
        if doubtful or self._has_silent_rival(name, best):
            self.joiner.ambiguous.add(name)
            return None
        return best

    def _has_silent_rival(self, name: str, tried: _Try) -> bool:
        """Whether a value of A that numbers cannot tell (all nought here) may stand there as well.

            A   x + (a - a) = x            B   x + (a - b), an activation gone in b

        It is made of what ``name`` is made of as much as the value that was tried.
        """
        arrays, taken, wanted = self._place(name)
        sizes = tuple(array.size for array in arrays)
        for other in self.a.variable - self.joiner.told.keys() - taken - {tried.name}:
            ours = self.joiner.values_a.get(other)
            if ours is None or tuple(array.size for array in ours) != sizes:
                continue
            alike = _kind(ours[0]) == _kind(arrays[0])
            if alike and self._overlap(other, taken, wanted) >= tried.overlap:
                return True
        return False

    def _matters(self, name: str, tried: _Try) -> bool:
        """Whether other numbers in the place of A's give something else behind it.

        Beside what is a million times as large, any small value gives A's numbers behind it.
        """
        if self.joiner.values_b[name][0].dtype.kind in "biu":
            return True
        moved = self._try(name, tried.name, tried.overlap, moved=True)
        return moved is None or moved.anchored < tried.anchored

    def _is_in_front(self, name: str, tried: _Try) -> bool:
        """Whether a value is far nearer to one that A computes on the way to what was found.

        Where an activation is gone, what was in front of it stands in its place.
        """
        joiner = self.joiner
        taken = {join.expected for join in joiner.joins.values()}
        sizes = joiner.sketches[tried.name].elements
        for other in self.a.ancestors(tried.name) - taken - {tried.name}:
            figures = joiner.sketches.get(other)
            if figures is None or figures.elements != sizes or self._shows(other, tried.name):
                continue
            there = joiner.layout(other, name)
            if there is not None and MARGIN * there[1] < tried.distance:
                return True
        return False

    def _shows(self, one: str, other: str) -> bool:
        return self._digest(one) == self._digest(other)

    def _digest(self, name: str) -> bytes:
        digests = self.joiner.digests
        return digests.of(digests.root(name))

    def _candidates(self, name: str) -> list[tuple[str, float]]:
        """Values of A that are not joined, of the same size and behind the same joined values."""
        arrays, taken, wanted = self._place(name)
        rated: list[tuple[bool, float, str]] = []
        for other, figures in self.joiner.sketches.items():
            ours = self.joiner.values_a[other]
            if other in taken or figures.elements != tuple(array.size for array in arrays):
                continue
            if _kind(ours[0]) != _kind(arrays[0]):
                continue
            overlap = self._overlap(other, taken, wanted)
            if overlap:
                rated.append((other != name, -overlap, other))
        names: list[tuple[str, float]] = []
        # How far off a value is counts among those that come equally late; the others need no look.
        for _, equal in groupby(sorted(rated), key=lambda item: item[:2]):
            if len(names) >= _CANDIDATES:
                break
            by_distance = sorted((self._far(other, name), other, -less) for _, less, other in equal)
            names += [(other, overlap) for _, other, overlap in by_distance]
        return names[:_CANDIDATES]

    def _place(self, name: str) -> tuple[list[np.ndarray], set[str], set[bytes | str]]:
        """A value of B, what of A is joined already, and the joined values in front of it."""
        joins = self.joiner.joins
        theirs = self.b.frontier(name, [n for n in joins if self._proved(n)])
        taken = {join.expected for join in joins.values() if join.proof is not Proof.NONE}
        front = {joins[n].expected if n in joins else n for n in theirs}
        return self.joiner.values_b[name], taken, self._told(front)

    def _overlap(self, other: str, taken: set[str], wanted: set[bytes | str]) -> float:
        """Share of the joined values in front that a value of A has in common with one of B."""
        front = self._told(self.a.frontier(other, taken))
        return len(front & wanted) / max(1, len(front | wanted))

    def _told(self, names: Collection[str]) -> set[bytes | str]:
        """Values of A by what they are made of, inputs by their names."""
        made = self.a.graph.producer
        return {self._digest(name) if name in made else name for name in names}

    def _far(self, candidate: str, name: str) -> float:
        layout = self.joiner.layout(candidate, name)
        return layout[1] if layout else float("inf")

    def _try(
        self, name: str, candidate: str, overlap: float, *, moved: bool = False
    ) -> _Try | None:
        """What agrees behind a value that is fed a candidate's numbers, or others (``moved``)."""
        joiner = self.joiner
        joined_as = joiner.layout(candidate, name)
        if joined_as is None:
            return None
        layout, far = joined_as
        parts = self._parts(name)
        fed = self._laid_out(name, candidate, layout)
        nodes = self.b.behind(name, _LOOK_AHEAD)
        values = Values(joiner.values_b.folder)
        digest = b"" if moved else self._fed_digest(name, candidate, layout)
        if moved:
            random = np.random.default_rng(0)
            fed = [array * (1 + 0.5 * random.standard_normal(array.shape)) for array in fed]
        joiner.compute(nodes, values, {**self.forced, name: fed}, {**self.fed, name: digest})
        agreeing = anchored = 0
        anchors, within = self._anchored(name, nodes), self._within(name, nodes)
        if not moved and not all(self._keeps(part, values, within) for part in parts):
            return None
        for made in values.names():
            if self.joiner.digests_b.root(made) == self.joiner.digests_b.root(name):
                continue  # what was fed, in another shape
            if self._agrees(made, values, candidate, (MARGIN if moved else 1.0) * within[made]):
                agreeing += 1
                anchored += made in anchors
        return _Try(candidate, layout, far, agreeing, anchored, overlap)

    def _within(self, name: str, nodes: list[int]) -> dict[str, float]:
        """How near a value behind one has to come to A's.

        Constants may have been rounded anew. Where none comes in, what is fed A's own numbers
        gives A's own, as exactly as the joined values do that come in.
        """
        graph, joiner = self.b.graph, self.joiner
        distances = {name: EXACT}
        for at in nodes:
            near = EXACT
            for read in graph.reads[at]:
                join = joiner.joins.get(read)
                if read in distances:
                    near = max(near, distances[read])
                elif read in graph.initializers:
                    floating = graph.array(read).dtype.kind not in "biuOSU"
                    near = joiner.within if floating else near
                elif read in self.b.variable:
                    if join is None or join.proof is Proof.NONE:
                        near = joiner.within
                    else:
                        near = max(near, MARGIN * join.distance)
            distances |= dict.fromkeys(graph.nodes[at].output, min(near, joiner.within))
        return distances

    def _keeps(self, made: str, values: Values, within: Mapping[str, float]) -> bool:
        """Whether a joined value behind is still what it is joined with."""
        if made not in values:
            return False
        near = self.joiner.near(values, made, within[made]) or []
        return any(self._shows(match.name, self.joiner.joins[made].expected) for match in near)

    def _agrees(self, made: str, values: Values, candidate: str, within: float) -> bool:
        """Whether a value behind is now one of A's that depends on the candidate."""
        if self._proved(made):
            return False
        near = self.joiner.near(values, made, within) or []
        return any(
            match.name != candidate and candidate in self.a.ancestors(match.name)
            for match in near[:3]
        )

    def _anchored(self, name: str, nodes: list[int]) -> set[str]:
        """Values behind one on whose way a weight or another joined value comes in, or outputs."""
        graph = self.b.graph
        reached, anchored = {name}, set()
        for at in nodes:
            inside = [read for read in graph.reads[at] if read in reached]
            others = [read for read in graph.reads[at] if read not in reached]
            known = any(self._tells(read) for read in others)
            outputs = [out for out in graph.nodes[at].output if out]
            if known or any(read in anchored for read in inside):
                anchored.update(outputs)
            anchored.update(out for out in outputs if out in graph.outputs)
            reached.update(outputs)
        return anchored

    def _tells(self, name: str) -> bool:
        graph = self.b.graph
        if name in graph.initializers:
            return is_large(graph, name)
        return self._proved(name) and name in self.b.variable

    def _laid_out(self, name: str, candidate: str, layout: Layout) -> list[np.ndarray]:
        pairs = zip(self.joiner.values_a[candidate], self.joiner.values_b[name], strict=True)
        return [layout.apply(ours, theirs.shape).astype(theirs.dtype) for ours, theirs in pairs]

    def _fed_digest(self, name: str, candidate: str, layout: Layout) -> bytes:
        """Digest of what is fed; b"" where it is laid out in another way than A's own value."""
        pairs = zip(self.joiner.values_a[candidate], self.joiner.values_b[name], strict=True)
        alike = all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
        return self.joiner.digests.of(candidate) if alike and layout.perm is None else b""

    def _feed(self, name: str, tried: _Try) -> None:
        """Compute everything behind a value anew, with A's numbers in its place."""
        joiner = self.joiner
        self.forced[name] = self._laid_out(name, tried.name, tried.layout)
        self.fed[name] = self._fed_digest(name, tried.name, tried.layout)
        nodes = self.b.behind(name)
        joiner.compute(nodes, joiner.values_b, self.forced, self.fed)
        made = [out for at in nodes for out in self.b.graph.nodes[at].output if out]
        joiner.match(out for out in made if not self._proved(out) and out not in joiner.joins)
        joiner.check_outputs()


def _kind(array: np.ndarray) -> str:
    return "f" if array.dtype.kind not in "biu" else array.dtype.kind.replace("u", "i")
