"""What depends on what in a graph: values behind and in front of a value."""

from __future__ import annotations

from collections.abc import Callable, Collection

from exporter.graph.index import GraphIndex

SIZES = frozenset({"Shape", "Size"})
_TYPES = frozenset({"CastLike"})
"""Of what these read beside the first input nothing but the type counts."""


class Flow:
    """Look-ups over one graph."""

    def __init__(self, graph: GraphIndex):
        self.graph = graph
        self.inputs = frozenset(graph.inputs)
        self.order = tuple(name for node in graph.nodes for name in node.output if name)
        self.variable = self._variable()

    def _variable(self) -> frozenset[str]:
        """Values that depend on what goes in, and not on sizes alone."""
        graph, variable = self.graph, set(self.inputs)
        for at, node in enumerate(graph.nodes):
            reads = node.input[:1] if node.op_type in _TYPES else graph.reads[at]
            if node.op_type not in SIZES and variable & set(reads):
                variable.update(name for name in node.output if name)
        return frozenset(variable - self.inputs)

    def reads(self, name: str) -> tuple[str, ...]:
        """What the node of a value reads; nothing of an input or a constant."""
        at = self.graph.producer.get(name)
        return () if at is None else self.graph.reads[at]

    def made_from(self, name: str) -> tuple[str, ...]:
        """Values that are computed from this one by one node."""
        graph = self.graph
        users = graph.consumers.get(name, ())
        return tuple(out for user in users for out in graph.nodes[user].output if out)

    def behind(self, name: str, most: int | None = None) -> list[int]:
        """Nodes that depend on a value, in the order of the graph; at most so many.

        What depends on its size alone does not count.
        """
        graph, nodes, reached = self.graph, [], {name}
        users = graph.consumers.get(name, ())
        for at in range(min(users, default=len(graph.nodes)), len(graph.nodes)):
            if graph.nodes[at].op_type in SIZES or reached.isdisjoint(graph.reads[at]):
                continue
            nodes.append(at)
            reached.update(graph.nodes[at].output)
            if most is not None and len(nodes) >= most:
                break
        return nodes

    def ancestors(self, name: str) -> set[str]:
        """Everything that a value is computed from, itself included."""
        names, stack = {name}, [name]
        while stack:
            for read in self.reads(stack.pop()):
                if read not in names:
                    names.add(read)
                    stack.append(read)
        return names

    def frontier(self, name: str, stops: Collection[str]) -> frozenset[str]:
        """The nearest of some values, and of the graph's inputs, that a value is computed from."""
        ends, seen, stack = set(), {name}, list(self.reads(name))
        while stack:
            at = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            if at in stops or at in self.inputs:
                ends.add(at)
            else:
                stack.extend(self.reads(at))
        return frozenset(ends)

    def reaches(
        self, name: str, wanted: Callable[[str], bool], through: Callable[[str], bool]
    ) -> bool:
        """Whether a value leads to a wanted one by values that may be passed through."""
        seen, stack = {name}, [name]
        while stack:
            for made in self.made_from(stack.pop()):
                if wanted(made):
                    return True
                if made not in seen and through(made):
                    seen.add(made)
                    stack.append(made)
        return False
