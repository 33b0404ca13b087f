"""Values of two files that agree by their numbers, and by no more than that of one another.

The state of one joining: what both files compute, what is joined and what is not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from exporter.core.tensors import Arrays
from exporter.graph.index import GraphIndex
from exporter.graph.node_origin import legacy_scope
from exporter.joining.digests import MOVES, Digests, is_large, one_language
from exporter.joining.evaluate import Values, evaluate
from exporter.joining.flow import Flow
from exporter.joining.joined import AS_IT_IS, How, Join, Layout, Proof
from exporter.joining.match import Bank, Match, ValueFigures, closest, distance, sketch
from exporter.joining.modules import modules_of

_FLOOR = 1e-11
"""Below this two float64 values count as equal."""
EXACT = 100 * _FLOOR
"""The same, of what was computed from equal values by other nodes."""
MARGIN = 8.0
"""Others have to be this many times further off."""


class Joiner:
    """State of one joining."""

    def __init__(
        self,
        expected: GraphIndex,
        actual: GraphIndex,
        inputs: Sequence[Arrays],
        exact: Values | None,
        folder: Path,
        inputs_of_actual: Mapping[str, str] | None,
        within: float,
        hidden: Collection[str] = (),
        rounded: Collection[str] = (),
        inside: Collection[str] = (),
    ):
        self.within, self._rounded = within, frozenset(rounded)
        self.hidden = frozenset(hidden)
        self.names = names = inputs_of_actual or {name: name for name in actual.inputs}
        self.inputs_a = inputs
        self.inputs = [{name: held[names[name]] for name in actual.inputs} for held in inputs]
        self.a, self.b = Flow(expected), Flow(actual)
        self.digests, self.digests_b = Digests(expected), Digests(actual, names)
        self.values_a = Values(folder) if exact is None else exact
        self.values_b = Values(folder)
        self.missing = evaluate(expected, inputs, self.values_a).missing
        self._by_digest = self._shareable(expected)
        self.missing |= self.compute(range(len(actual.nodes)), self.values_b)
        self.digests.kept = _kept(expected, self.values_a)
        self.digests_b.kept = _kept(actual, self.values_b)
        self._modules = modules_of(expected)
        self.told = dict(self._tell())
        self.sketches = {n: held for n, held in self.told.items() if n not in inside}
        self.bank = self._bank(self.sketches)
        self._inside = self._bank({n: held for n, held in self.told.items() if n in inside})
        self.joins: dict[str, Join] = {}
        self.ambiguous: set[str] = set()
        # Of a joined value of B, or an input: what it is, in A's terms.
        self.identity: dict[str, bytes] = {n: self.digests_b.of(n) for n in actual.inputs}

    def _tell(self) -> Iterator[tuple[str, ValueFigures]]:
        for name in self.a.order:
            arrays = self.values_a.get(name)
            held = sketch(arrays) if arrays and name in self.a.variable else None
            if held is not None:
                yield name, held

    def _bank(self, sketches: Mapping[str, ValueFigures]) -> Bank:
        return Bank((name, held, self.values_a[name]) for name, held in sketches.items())

    def counts(self, name: str) -> bool:
        """Whether a value of B is a floating one that depends on what goes in, and is read."""
        arrays = self.values_b.get(name)
        return (
            name in self.b.variable
            and name not in self.hidden
            and (name in self.b.graph.consumers or name in self.b.graph.outputs)
            and self.digests_b.root(name) not in self.b.graph.inputs
            and arrays is not None
            and arrays[0].dtype.kind not in "biuOSU"
        )

    def is_proved(self, name: str) -> bool:
        """Whether a value of B is joined, and numbers have shown it."""
        held = self.joins.get(name)
        return held is not None and held.proof is not Proof.NONE

    def is_seen(self, name: str, *, proved: bool) -> bool:
        """Whether a joined value depends on this one, with no joined one in between.

        Decisions do not speak for floats in front: token ids are the same for many logits.
        """
        held = self.is_proved if proved else self.joins.__contains__
        floating = self._is_floating(name)

        def vouches(made: str) -> bool:
            return held(made) and (self._is_floating(made) or not floating)

        return self.b.reaches(name, vouches, lambda made: not held(made))

    # -- in float64 -------------------------------------------------------------------------------

    def _shareable(self, expected: GraphIndex) -> dict[bytes, str]:
        """Values of A by what they are made of; none where that does not say what they are."""
        if not one_language(expected, self.b.graph):
            return {}
        names = (name for node in expected.nodes for name in node.output if name)
        return {self.digests.of(name): name for name in names if name in self.values_a}

    def compute(
        self,
        nodes: Sequence[int],
        values: Values,
        forced: Mapping[str, Sequence[np.ndarray]] | None = None,
        fed: Mapping[str, bytes] | None = None,
    ) -> dict[str, str]:
        """Compute nodes of B; what is A's own function of the same numbers is A's value.

        Args:
            nodes: in the order of the graph. values: where results go.
            forced: value -> what its readers are fed. fed: value -> the digest of that, b"" where
                it is no value of A's as that stands.

        Returns:
            Values that nothing computes -> why.
        """
        fed = {name: held or name.encode() for name, held in (fed or {}).items()}
        made = self.digests_b.behind(nodes, fed)
        left = []
        for at in nodes:
            outputs = [name for name in self.b.graph.nodes[at].output if name]
            same = [self._by_digest.get(made[name]) for name in outputs]
            if not outputs or None in same:
                left.append(at)
                continue
            for name, its in zip(outputs, same, strict=True):
                values.share(name, self.values_a, str(its))
        given = None if values is self.values_b else self.values_b
        return evaluate(
            self.b.graph, self.inputs, values, nodes=left, given=given, forced=forced
        ).missing

    def _is_floating(self, name: str) -> bool:
        arrays = self.values_b.get(name)
        return arrays is None or arrays[0].dtype.kind not in "biuOSU"

    # -- by value ---------------------------------------------------------------------------------

    def match(self, names: Iterable[str]) -> None:
        """Join those of some values of B, in its order, that agree with values of A."""
        for name in names:
            if name not in self.b.variable or name in self.joins or name in self.hidden:
                continue
            if name not in self.values_b:
                continue
            # Further out than what counts as one: what is nearly as near is a rival.
            near = self.near(self.values_b, name, MARGIN * self.within)
            if near is None:
                continue
            self.ambiguous.discard(name)
            shown = self.digests_b.root(name)
            if shown in self.b.graph.inputs:
                # An input in another shape or type: what agrees with it by chance it is not.
                given = self.digests_b.of(shown)
                near = [match for match in near if self._root_digest(match.name) == given]
            if near and near[0].distance <= self.within:
                if self._is_rounded(name):
                    self.ambiguous.add(name)  # it agrees although its constants do not
                else:
                    self._decide(name, near)

    def near(self, values: Values, name: str, within: float) -> list[Match] | None:
        """Values of A that a value of B agrees with; None where there is nothing to tell it by."""
        # What is A's own by what it is made of was computed, and looked at, once.
        arrays, same = values[name], values.shared.get(name)
        held = self.told.get(same or "") or sketch(arrays)
        if held is None:
            return None
        near = self.bank.near(held, arrays, within, same)
        return near or self._inside.near(held, arrays, within, same)

    def _is_rounded(self, name: str) -> bool:
        """Whether a constant enters behind the nearest joined values that is A's own nowhere."""
        if not self._rounded:
            return False
        seen, stack = {name}, [name]
        while stack:
            for read in self.b.reads(stack.pop()):
                if read in self._rounded:
                    return True
                if read not in seen and read not in self.joins:
                    seen.add(read)
                    stack.append(read)
        return False

    def _decide(self, name: str, near: list[Match]) -> None:
        rivals = [m for m in near if m.distance <= max(MARGIN * near[0].distance, _FLOOR)]
        same = self._one_function(rivals)
        chosen = rivals if same else self._by_structure(name, rivals, self._equal(rivals))
        if not chosen:
            self.ambiguous.add(name)
            return
        best = min(chosen, key=lambda match: self._preference(name, match))
        how = self._how(name, best.name, settled=not same)
        self.take(name, best, how, Proof.VALUE)

    def has_double(self, a: str) -> bool:
        """Whether a value of A can hardly be told from another one of A's that is not the same."""
        near = self.bank.near(self.sketches[a], self.values_a[a], MARGIN * self.within)
        return not self._one_function(near)

    def _equal(self, rivals: list[Match]) -> bool:
        """Whether some values of A hold the same numbers."""
        first = self.values_a[rivals[0].name]
        found = (closest(first, self.values_a[match.name]) for match in rivals[1:])
        return all(held is not None and held[1] <= _FLOOR for held in found)

    def _one_function(self, rivals: list[Match]) -> bool:
        return len({self._root_digest(match.name) for match in rivals}) == 1

    def _root_digest(self, name: str) -> bytes:
        return self.digests.of(self.digests.root(name))

    def _by_structure(self, name: str, rivals: list[Match], equal: bool) -> list[Match]:
        """The rivals of one function that are made as ``name`` is; none where two functions are.

        Args:
            equal: their numbers are the same, so that weights need not tell them apart.
        """
        made = [m for m in rivals if self._same_making(m.name, name, weights=True)]
        if not made and equal:
            made = [m for m in rivals if self._same_making(m.name, name, weights=False)]
        if not made and equal:
            # A scale of one, an offset of nought: the value that goes where this one goes.
            readers = self._readers(self.b, self.digests_b, name)
            made = [m for m in rivals if self._readers(self.a, self.digests, m.name) & readers]
        return made if made and self._one_function(made) else []

    def _same_making(self, a: str, b: str, *, weights: bool) -> bool:
        """The same operator on the same joined values and, with ``weights``, the same constants."""
        left, right = (flow.graph.producer.get(n) for flow, n in ((self.a, a), (self.b, b)))
        if left is None or right is None:
            return False
        ours, theirs = self.a.graph.nodes[left], self.b.graph.nodes[right]
        if (ours.op_type, len(ours.input)) != (theirs.op_type, len(theirs.input)):
            return False
        if weights and self.digests.body(left) != self.digests_b.body(right):
            return False
        for one, other in zip(ours.input, theirs.input, strict=True):
            if other in self.identity:
                if self._root_digest(one) != self.identity[other]:
                    return False
            elif weights and self.digests.of(one) != self.digests_b.of(other):
                return False
        return True

    def _readers(self, flow: Flow, digests: Digests, name: str) -> set[tuple]:
        """Who reads a value: by weights beside it, else by operator; by what shows it anew, too."""
        graph, found = flow.graph, set()
        for at in graph.consumers.get(name, ()):
            node = graph.nodes[at]
            weights = [n for n in node.input if n in graph.initializers and is_large(graph, n)]
            slot = next((i for i, read in enumerate(node.input) if read == name), -1)
            if weights:
                found.add((slot, *map(digests.of, weights)))
            elif node.op_type in MOVES:
                found |= self._readers(flow, digests, node.output[0])
            else:
                found.add((slot, node.op_type))
        return found

    def _preference(self, name: str, match: Match) -> tuple:
        a, graph = match.name, self.a.graph
        arrays, ours = self.values_b[name], self.values_a[a]
        making = graph.nodes[graph.producer[a]].op_type
        return (
            a != name,
            match.layout.perm is not None,
            any(left.shape != right.shape for left, right in zip(ours, arrays, strict=True)),
            making != self.b.graph.nodes[self.b.graph.producer[name]].op_type,
            match.distance,
        )

    def _how(self, name: str, a: str, *, settled: bool = False) -> How:
        if a == name and not settled:
            return How.NAME
        module = self._modules.get(a, "")
        if module and legacy_scope(name) == module:
            return How.SCOPE
        made = settled or self._same_making(a, name, weights=True)
        return How.STRUCTURE if made else How.NUMBERS

    def take(self, name: str, match: Match, how: How, proof: Proof) -> None:
        """Hold a join."""
        self.joins[name] = Join(
            expected=match.name,
            actual=name,
            how=how,
            proof=proof,
            layout=match.layout,
            distance=match.distance,
            shapes=(self.values_a[match.name][0].shape, self.values_b[name][0].shape),
        )
        self.identity[name] = self._root_digest(match.name)
        self.ambiguous.discard(name)

    def how(self, name: str, a: str) -> How:
        """What leads to a join."""
        return self._how(name, a)

    # -- outputs ----------------------------------------------------------------------------------

    def check_outputs(self) -> None:
        """Outputs of one public name are compared, whatever the numbers say."""
        for name in self.b.graph.outputs:
            if name not in self.a.graph.outputs or name not in self.b.graph.producer:
                continue
            held = self.joins.get(name)
            if held is not None and held.expected == name and held.proof is Proof.VALUE:
                self.joins[name] = replace(held, how=How.INTERFACE)
                continue
            left, right = self.values_a.get(name), self.values_b.get(name)
            found = closest(left, right) if left and right else None
            far = found[1] if found else float("inf")
            proof = Proof.VALUE if far <= self.within else Proof.NONE
            self.joins[name] = Join(
                expected=name,
                actual=name,
                how=How.INTERFACE,
                proof=proof,
                layout=AS_IT_IS,
                distance=far,
            )

    # -- what comes second ------------------------------------------------------------------------

    def drop_second_best(self) -> None:
        """Of two values of B that were joined with one of A and differ, the nearer one stays."""
        claims: dict[bytes, list[Join]] = {}
        for join in self.joins.values():
            if join.proof is Proof.VALUE and join.how is not How.INTERFACE:
                claims.setdefault(self._root_digest(join.expected), []).append(join)
        for held in claims.values():
            best = min(join.distance for join in held)
            for join in held:
                if join.distance > max(MARGIN * best, EXACT) and self._other(join, held):
                    del self.joins[join.actual]
                    self.ambiguous.add(join.actual)

    def _other(self, join: Join, held: list[Join]) -> bool:
        """Whether a nearer one is another value, and not this one with more behind it."""
        nearest = min(held, key=lambda one: one.distance)
        roots = {self.digests_b.root(one.actual) for one in (nearest, join)}
        return len(roots) == 2

    def layout(self, a: str, b: str) -> tuple[Layout, float] | None:
        """How B would hold a value of A's: by its shape or, where that says little, by numbers."""
        ours, theirs = self.values_a[a], self.values_b[b]
        if all(left.shape == right.shape for left, right in zip(ours, theirs, strict=True)):
            far = max(distance(left, right) for left, right in zip(ours, theirs, strict=True))
            return AS_IT_IS, far
        return closest(ours, theirs)


def _kept(graph: GraphIndex, values: Values) -> frozenset[str]:
    """Casts that change no number."""
    found = set()
    for node in graph.nodes:
        if node.op_type not in ("Cast", "CastLike"):
            continue
        before, after = values.get(node.input[0]), values.get(node.output[0])
        if before is None or after is None:
            continue
        pairs = list(zip(before, after, strict=True))
        alike = (a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True) for a, b in pairs)
        if before[0].dtype.kind == "f" and all(alike):
            found.add(node.output[0])
    return frozenset(found)
