"""Stored weights against the captured program's parameters, where no clean file is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from exporter.debugging.pair import Pair
from exporter.interpret.evaluate import to_array
from exporter.judge.layer_results import JudgedTap


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongWeight:
    """A stored tensor that is not the parameter it should be.

    Attributes:
        kind: "weight", "dtype" or "shape". node: index of the node that reads it.
        name: the parameter, and the initialiser where that has another name.
        share: how many elements differ, in brackets; "" where that says nothing.
    """

    kind: str
    node: int
    name: str
    expected: str
    actual: str
    share: str = ""


def wrong_weight(pair: Pair, row: JudgedTap) -> WrongWeight | None:
    """The first weight in the piece of a tap that differs from PyTorch's."""
    for index, name, wanted, present in _pairs(pair, row):
        if wanted.shape != present.shape or wanted.dtype != present.dtype:
            return WrongWeight(
                kind="dtype" if wanted.shape == present.shape else "shape",
                node=index,
                name=name,
                expected=f"{wanted.dtype.name} {list(wanted.shape)}",
                actual=f"{present.dtype.name} {list(present.shape)}",
            )
        unequal = ~((wanted == present) | ((wanted != wanted) & (present != present)))
        if not unequal.any():
            continue
        with np.errstate(invalid="ignore"):
            gap = np.abs(present.astype(np.float64) - wanted.astype(np.float64))
        ranked = np.where(unequal, np.nan_to_num(gap, nan=np.inf), -1.0)
        at = np.unravel_index(int(ranked.argmax()), gap.shape)
        place = f" at {[int(i) for i in at]}" if at else ""
        return WrongWeight(
            kind="weight",
            node=index,
            name=name,
            expected=f"{float(wanted[at]):.9g}{place}",
            actual=f"{float(present[at]):.9g}{place}",
            share=f" ({int(unequal.sum()):,} of {unequal.size:,} elements differ)",
        )
    return None


def _pairs(pair: Pair, row: JudgedTap) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
    """(node, name, parameter, stored) for everything that must be the same.

    Joined on the parameter's name; a matrix that the exporter stored transposed under a name of
    its own is joined when the piece holds exactly one tensor that it can be.
    """
    graph, program = pair.actual, pair.program
    stored = {
        name: index
        for index in row.nodes
        for name in graph.reads[index]
        if name in graph.initializers
    }
    for name, index in stored.items():
        if name in program.tensors:
            yield index, name, to_array(program.tensors[name]), graph.array(name)
    op = next((op for op in program.ops if op.name == row.planned.tap.name), None)
    for key in dict.fromkeys(program.weights.get(ref) for ref in (op.refs() if op else ())):
        if key is None or key in stored or program.tensors[key].dim() != 2:
            continue
        turned = to_array(program.tensors[key]).T
        fitting = [
            name
            for name in stored
            if name not in program.tensors and tuple(graph.initializers[name].dims) == turned.shape
        ]
        if len(fitting) == 1:
            weight = graph.array(fitting[0])
            yield stored[fitting[0]], f"{fitting[0]} ({key}, transposed)", turned, weight
