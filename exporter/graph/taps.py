"""Which values PyTorch and an ONNX file have in common: joined on names, never guessed.

Names do not prove that a value is the same one: a tool that folds two ops into one may give the
result of both the name of the first. ``Joins`` holds what numbers have shown of such names, see
``execution.misnamed_taps``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from exporter.core.errors import ArtifactError
from exporter.core.files import write_text
from exporter.core.reading import Door
from exporter.core.tensors import COMPARED, FUSED, MISSING, MOVED, PlannedTap, Tap
from exporter.graph.index import GraphIndex
from exporter.graph.program import Op, Program
from exporter.graph.unwritten_memory import allocates

DOOR = Door(error=ArtifactError, says="the tap map cannot be read", remedy="run the pipeline again")
_VIEWS = frozenset(
    "view reshape _unsafe_view permute transpose t expand squeeze unsqueeze slice select alias"
    " clone contiguous detach split split_with_sizes unbind chunk getitem narrow _to_copy"
    " flatten unflatten movedim flip as_strided diagonal".split()
)
"""Ops that show memory again: of what nobody wrote, nobody wrote the view either."""


class TapRow(BaseModel):
    """One row of ``taps.json``: a tap and its name in the file."""

    model_config = ConfigDict(strict=True, frozen=True)

    name: str
    module: str
    module_class: str
    op: str
    source: str
    onnx_name: str


class TapMap(BaseModel):
    """``taps.json``."""

    model_config = ConfigDict(strict=True, frozen=True)

    taps: list[TapRow]


class Names(StrEnum):
    """What vouches for the names of a file's values."""

    OURS = "ours"
    """This program has just written the file."""
    KEPT = "kept"
    """The file says where its values come from; a tool may have rewritten it since."""
    BARE = "bare"
    """Nothing but the names themselves."""
    PROVED = "proved"
    """Numbers, value by value, whatever the names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joins:
    """What is known of a file's names beyond the names themselves.

    Attributes:
        names: tap -> the value of the file that holds it, where that has another name.
        moved: taps whose names in the file hold other values.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    moved: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.names or self.moved)


NO_JOINS = Joins()


def tap_ops(program: Program) -> tuple[Op, ...]:
    """Ops whose value is one tensor or one integer: every one of them is a tap.

    Integers are computed from sizes. Were they no taps, a wrong one would be read by many layers,
    and each of them would look guilty. Memory that nobody wrote yet is none: it has no value.
    """
    nothing = _unwritten(program)
    return tuple(
        op
        for op in program.ops
        if op.kind in ("tensor", "size") and op.dtype and op.name not in nothing
    )


def _unwritten(program: Program) -> frozenset[str]:
    """Values of a program that are memory never written, or a view of such."""
    names: set[str] = set()
    for op in program.ops:
        parts = op.target.split(".")
        moves = len(parts) > 1 and parts[1] in _VIEWS
        source = next(op.refs(), None)
        if allocates(op.target) or (moves and source in names):
            names.add(op.name)
    return frozenset(names)


def plan_taps(
    program: Program,
    graph: GraphIndex,
    known: Collection[str] | None = None,
    joins: Joins = NO_JOINS,
) -> tuple[PlannedTap, ...]:
    """Decide the fate of every tap of ``program`` in ``graph``.

    Args:
        known: taps that the graph is known to hold, where a name alone does not say so; its
            outputs are known by their names. ``None`` for a graph that descends from the program.
        joins: what is known of single names besides.
    """
    ops = tap_ops(program)
    names = {op.name: joins.names.get(op.name, program.onnx_name(op.name)) for op in ops}
    outputs = set(graph.outputs)
    alive = {
        op.name
        for op in ops
        if (names[op.name] in graph.producer or names[op.name] in graph.initializers)
        and (known is None or op.name in {*known, *joins.names} or op.name in program.outputs)
        and op.name not in joins.moved
    }
    behind = _nearest_behind(program, alive)
    planned = []
    for op in ops:
        name = names[op.name]
        into = None if op.name in alive else behind.get(op.name)
        gone = MOVED if op.name in joins.moved else FUSED
        fate = COMPARED if op.name in alive else gone if into else MISSING
        planned.append(
            PlannedTap(
                tap=op.tap,
                dtype=op.dtype,
                # Its name means another value: nobody may ask the file for this one.
                onnx_name="" if op.name in joins.moved else name,
                fate=fate,
                into=into,
                constant=(
                    op.name not in joins.moved
                    and name not in graph.producer
                    and name in graph.initializers
                ),
                output=name in outputs,
                renamed=op.name in joins.names,
            )
        )
    return tuple(planned)


def _nearest_behind(program: Program, alive: set[str]) -> dict[str, str]:
    """For every value, the first compared tap that is computed from it."""
    order = {op.name: index for index, op in enumerate(program.ops)}
    nearest: dict[str, str] = {}
    for op in reversed(program.ops):
        target = op.name if op.name in alive else nearest.get(op.name)
        if target is None:
            continue
        for name in op.refs():
            if name not in nearest or order[target] < order[nearest[name]]:
                nearest[name] = target
    return nearest


def count_fates(planned: Iterable[PlannedTap]) -> dict[str, int]:
    """Number of taps per fate; a moved one is fused into the next as well."""
    counts = {COMPARED: 0, FUSED: 0, MISSING: 0}
    for tap in planned:
        counts[FUSED if tap.fate == MOVED else tap.fate] += 1
    return counts


def write_taps(planned: Iterable[PlannedTap], path: Path) -> None:
    """Write the tap map of an export, atomically."""
    keys = [key for key in TapRow.model_fields if key != "onnx_name"]
    rows = [
        {**{key: getattr(tap.tap, key) for key in keys}, "onnx_name": tap.onnx_name}
        for tap in planned
    ]
    write_text(path, json.dumps({"format": 1, "taps": rows}, indent=0))


def read_taps(path: Path) -> dict[str, Tap]:
    """Read a tap map: ONNX value name -> tap.

    Raises:
        ArtifactError: the file is missing or not a tap map.
    """
    rows = DOOR.record_of_json(TapMap, DOOR.bytes(path), path).taps
    return {row.onnx_name: Tap(**row.model_dump(exclude={"onnx_name"})) for row in rows}
