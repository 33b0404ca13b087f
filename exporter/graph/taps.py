"""Which values PyTorch and an ONNX file have in common: joined on exact names, never guessed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from exporter.core.files import write_text
from exporter.errors import ArtifactError
from exporter.graph.index import GraphIndex
from exporter.graph.program import Op, Program
from exporter.graph.unwritten import unwritten
from exporter.tensors import Tap

COMPARED = "compared"
FUSED = "fused"
MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTap:
    """A tap and its fate in one ONNX file.

    Attributes:
        tap: the point in the captured program.
        onnx_name: the value's name in the file.
        fate: "compared", "fused" (the value is gone, something that depends on it is compared)
            or "missing" (nothing that depends on it is left).
        into: for a fused tap, the nearest compared tap behind it.
        constant: the file holds the value as an initialiser.
        output: the value is an output of the graph.
    """

    tap: Tap
    onnx_name: str
    fate: str
    into: str | None = None
    constant: bool = False
    output: bool = False


def tap_ops(program: Program) -> tuple[Op, ...]:
    """Ops whose value is one tensor or one integer: every one of them is a tap.

    Integers are computed from sizes. Were they no taps, a wrong one would be read by many layers,
    and each of them would look guilty. Memory that nobody wrote yet is none: it has no value.
    """
    nothing = unwritten(program)
    return tuple(
        op
        for op in program.ops
        if op.kind in ("tensor", "size") and op.dtype and op.name not in nothing
    )


def plan_taps(
    program: Program, graph: GraphIndex, known: Collection[str] | None = None
) -> tuple[PlannedTap, ...]:
    """Decide the fate of every tap of ``program`` in ``graph``.

    Args:
        known: taps that the graph is known to hold, where a name alone does not say so; its
            outputs are known by their names. ``None`` for a graph that descends from the program.
    """
    ops = tap_ops(program)
    names = {op.name: program.onnx_name(op.name) for op in ops}
    outputs = set(graph.outputs)
    alive = {
        op.name
        for op in ops
        if (names[op.name] in graph.producer or names[op.name] in graph.initializers)
        and (known is None or op.name in known or op.name in program.outputs)
    }
    behind = _nearest_behind(program, alive)
    planned = []
    for op in ops:
        name = names[op.name]
        into = None if op.name in alive else behind.get(op.name)
        fate = COMPARED if op.name in alive else FUSED if into else MISSING
        planned.append(
            PlannedTap(
                tap=op.tap,
                onnx_name=name,
                fate=fate,
                into=into,
                constant=name not in graph.producer and name in graph.initializers,
                output=name in outputs,
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
    """Number of taps per fate."""
    counts = {COMPARED: 0, FUSED: 0, MISSING: 0}
    for tap in planned:
        counts[tap.fate] += 1
    return counts


def write_taps(planned: Iterable[PlannedTap], path: Path) -> None:
    """Write the tap map of an export, atomically."""
    rows = [{**asdict(tap.tap), "onnx_name": tap.onnx_name} for tap in planned]
    write_text(path, json.dumps({"format": 1, "taps": rows}, indent=0))


def read_taps(path: Path) -> dict[str, Tap]:
    """Read a tap map: ONNX value name -> tap.

    Raises:
        ArtifactError: the file is missing or not a tap map.
    """
    try:
        rows = json.loads(path.read_text())["taps"]
        return {row.pop("onnx_name"): Tap(**row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"the tap map cannot be read ({error})",
            where=str(path),
            remedy="run the pipeline again",
        ) from error
