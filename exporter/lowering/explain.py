"""What broke somebody else's lowered file: its layers by damage, and what restoring them gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from exporter.core.tensors import Case
from exporter.execution.deployment import Deployment
from exporter.graph.index import GraphIndex
from exporter.graph.program import Program
from exporter.graph.taps import NO_JOINS, Joins
from exporter.interpret.propagated import targets_of
from exporter.lowering.effects import effects_of
from exporter.lowering.layers import Layer, find_layers
from exporter.lowering.outcome import Outcome, TargetRun, truth_of
from exporter.lowering.own_errors import LoweredFile, own_errors
from exporter.lowering.restore import restore_layers

RESTORED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaging:
    """A layer of a lowered file.

    Attributes:
        own: relative rms of its own error. effect: relative rms error that it makes at the targets.
        restored: the file with this layer and all worse ones in float32; None: not tried, or it
            could not be put back.
    """

    layer: Layer
    own: float
    effect: float
    restored: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedFile:
    """A lowered file on one case: as it is, and its layers, the most damaging first."""

    now: Outcome
    layers: tuple[Damaging, ...]

    @property
    def first(self) -> tuple[Damaging, ...]:
        """The layers to restore first."""
        return tuple(held for held in self.layers[:RESTORED] if held.restored is not None)


def explain(
    program: Program,
    path: Path,
    graph: GraphIndex,
    plain: GraphIndex,
    case: Case,
    deployment: Deployment,
    budget: int,
    *,
    known: frozenset[str] | None = None,
    joins: Joins = NO_JOINS,
    directions: int = 16,
) -> ExplainedFile | None:
    """Rank the layers of a lowered file, and put the worst back one after the other.

    Args:
        path, graph: the lowered file. plain: the float32 file of the program.
        known, joins: as for ``plan_taps``.

    Returns:
        None for a file that computes nothing in a lower precision, or of which nothing is known.
    """
    file = LoweredFile.of(program, graph, known, joins)
    shared = file.shared(program, plain)
    layers = find_layers(plain, shared, file.lowered, None)
    if not file.formats or not layers:
        return None
    targets = targets_of(program)
    truth = truth_of(program, case.inputs, targets)
    run = TargetRun(program, path, file, targets, deployment)
    (held,) = own_errors(program, file, [case.inputs], deployment, budget)
    effects, _ = effects_of(
        program, case.inputs, layers, held.errors, targets, directions=directions
    )
    damage = effects.damage
    order = sorted(range(len(layers)), key=lambda n: -damage[n])
    theirs = {tap.tap.name: tap.onnx_name for tap in file.planned}
    names = {tap.onnx_name: theirs[tap.tap.name] for tap in shared}
    rows: list[Damaging] = []
    for place in order:
        own = max((held.relative.get(tap, 0.0) for tap in layers[place].taps), default=0.0)
        rows.append(Damaging(layer=layers[place], own=own, effect=float(damage[place])))
    for count in range(1, min(RESTORED, len(rows)) + 1):
        worst = [row.layer for row in rows[:count]]
        restored = _restored(program, path, graph, plain, names, worst)
        if restored is None:
            break
        outcome = run.on(restored, deployment).outcome(case.inputs, truth)
        rows[count - 1] = Damaging(
            layer=worst[-1],
            own=rows[count - 1].own,
            effect=rows[count - 1].effect,
            restored=outcome,
        )
    return ExplainedFile(now=run.outcome(case.inputs, truth), layers=tuple(rows))


def _restored(
    program: Program,
    path: Path,
    graph: GraphIndex,
    plain: GraphIndex,
    names: dict[str, str],
    layers: Sequence[Layer],
) -> onnx.ModelProto | None:
    in_file = [
        replace(layer, taps=tuple(program.onnx_name(tap) for tap in layer.taps)) for layer in layers
    ]
    return restore_layers(path, graph, plain, names, in_file)


def explained(*given: Any, **more: Any) -> list[str]:
    """``explain`` in words, for the notes of a report; it changes no verdict.

    What cannot be explained (an op without gradients, a copy that onnxruntime refuses) is said.
    """
    try:
        found = explain(*given, **more)
    except Exception as error:  # noqa: BLE001 - a file of any kind, and nothing rests on this
        said = f"{type(error).__name__}: {str(error)[:200]}"
        return [f"what its lowered layers do at the outputs could not be found ({said})"]
    return in_words(found) if found is not None else []


def in_words(found: ExplainedFile) -> list[str]:
    """What a report says of it."""
    now = found.now
    lines = []
    if now.error is not None:
        lines.append(
            f"lowered layers: {len(found.layers)}; together they cost {_words(now)} at the outputs"
            " and at what decisions rest on"
        )
    for number, held in enumerate(found.layers[:RESTORED], 1):
        said = (
            f"{number}. to restore to float32: {held.layer.name} (error by itself {held.own:.2g},"
            f" effect {held.effect:.2g})"
        )
        if held.restored is not None:
            said += f"; measured with it restored: {_words(held.restored)}"
        lines.append(said)
    return lines


def _words(outcome: Outcome) -> str:
    error = "no error that could be measured"
    if outcome.error is not None and np.isfinite(outcome.error):
        error = f"an error of {outcome.error:.3g} of the rms"
    elif outcome.error is not None:
        error = "values that are not finite"
    flips = f", {outcome.flips} flips" if outcome.flips or outcome.decisions else ""
    return error + flips
