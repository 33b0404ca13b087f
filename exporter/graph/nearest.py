"""For every node of a graph, the nearest value behind it that people know."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from exporter.graph.index import GraphIndex


class NearestTap:
    """Answers for all nodes at once; computed in one pass from the outputs backwards.

    Args:
        graph: its nodes stand in topological order, as ONNX demands.
        taps: the values that are known; ``None`` for every value.
    """

    def __init__(self, graph: GraphIndex, taps: Collection[str] | None) -> None:
        self._taps = taps
        self._found: dict[str, tuple[int, int, str]] = {}
        if taps is None:
            return
        for position in range(len(graph.nodes) - 1, -1, -1):
            answer = self._answer(graph, position)
            if answer is not None:
                self._found.update((name, answer) for name in graph.nodes[position].output)

    def _answer(self, graph: GraphIndex, position: int) -> tuple[int, int, str] | None:
        """(steps, place of the next node, tap): the smallest is the nearest."""
        taps = self._taps or ()
        outputs = [name for name in graph.nodes[position].output if name]
        for name in outputs:
            if name in taps:
                return 0, position, name
        users = {user for name in outputs for user in graph.consumers.get(name, ())}
        behind = []
        for user in users:
            nearest = self._found.get(next(filter(None, graph.nodes[user].output), ""))
            if nearest is not None:
                behind.append((nearest[0] + 1, user, nearest[2]))
        return min(behind, default=None)

    def of(self, node: onnx.NodeProto) -> str | None:
        """The nearest tap at or behind a node, by number of steps, then graph order."""
        outputs = [name for name in node.output if name]
        if self._taps is None:
            return outputs[0] if outputs else None
        nearest = [self._found[name] for name in outputs if name in self._found]
        return nearest[0][2] if nearest else None
