"""Structural differences of a file, each with the tap, the module and the node it is at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.core.tensors import PlannedTap
from exporter.debugging.pair import Pair
from exporter.graph.compare_graphs import diff_structure
from exporter.graph.difference_kinds import Difference, Kind
from exporter.graph.index import GraphIndex
from exporter.graph.subgraph import piece_of
from exporter.judge.layer_results import JudgedTap


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """One difference and its place.

    Attributes:
        values: outputs of the nodes that it concerns (several where they share a weight).
        taps: the taps of those nodes, in program order: the node's own value, or the nearest one
            behind it. Empty where the whole file is meant.
    """

    difference: Difference
    values: tuple[str, ...]
    taps: tuple[PlannedTap, ...]

    @property
    def module(self) -> str:
        """Module path of the first tap; "" for the whole file."""
        return self.taps[0].tap.module if self.taps else ""


def locate_differences(pair: Pair) -> tuple[Located, ...]:
    """Everything in the file under test that is not as it was exported, in program order."""
    if pair.own or not pair.descends:
        return ()
    # Without a list of taps a difference carries the first output of its own node.
    differences = diff_structure(pair.expected, pair.actual)
    order = {t.onnx_name: (i, t) for i, t in enumerate(pair.planned)}
    located = []
    for difference in differences:
        values = () if difference.tap is None else (difference.tap, *difference.also)
        graph = pair.actual if difference.kind is Kind.NODE_ADDED else pair.expected
        places = sorted(
            {p for p in (_tap_of(graph, v, order) for v in values) if p is not None},
            key=lambda place: place[0],
        )
        taps = tuple(tap for _, tap in places)
        located.append(Located(difference=difference, values=values, taps=taps))

    def place(at: Located) -> int:
        return order[at.taps[0].onnx_name][0] if at.taps else len(order)

    return tuple(sorted(located, key=place))


def _tap_of(
    graph: GraphIndex, value: str, order: dict[str, tuple[int, PlannedTap]]
) -> tuple[int, PlannedTap] | None:
    """The tap with that name, or the nearest one behind it (fewest steps, then program order)."""
    wave, seen = [value], set[str]()
    while wave:
        ordered = sorted(
            (order[name] for name in wave if name in order), key=lambda place: place[0]
        )
        if ordered:
            return ordered[0]
        seen.update(wave)
        users = sorted({user for name in wave for user in graph.consumers.get(name, ())})
        after = dict.fromkeys(name for user in users for name in graph.nodes[user].output if name)
        wave = [name for name in after if name not in seen]
    return None


def explaining(pair: Pair, row: JudgedTap, located: Iterable[Located]) -> tuple[Located, ...]:
    """The differences that lie inside the piece of one tap, on either side.

    A tap that the file has lost widens the piece: what was between two taps of the exported
    file is then between two taps that are further apart.
    """
    name = row.planned.onnx_name
    inside = {v for i in row.nodes for v in pair.actual.nodes[i].output}
    wider = piece_of(pair.expected, name, pair.cut & pair.shipped)
    inside |= {v for i in wider for v in pair.expected.nodes[i].output}
    return tuple(at for at in located if inside.intersection(at.values) or name in at.values)


def taps_behind(pair: Pair, located: Iterable[Located]) -> tuple[PlannedTap, ...]:
    """The compared taps whose piece holds a difference: where numbers would show it."""
    graph, names = pair.actual, set[str]()
    for at in located:
        wave = [tap.onnx_name for tap in at.taps] + list(at.values)
        seen: set[str] = set()
        while wave:
            names.update(name for name in wave if name in pair.cut)
            seen.update(wave)
            after: list[str] = []
            for name in wave:
                if name in pair.cut:
                    continue
                for side in (graph, pair.expected):
                    for user in side.consumers.get(name, ()):
                        after += [v for v in side.nodes[user].output if v and v not in seen]
            wave = list(dict.fromkeys(after))
    return tuple(t for t in pair.planned if t.onnx_name in names)
