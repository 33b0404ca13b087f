"""Every layer's own error in a lowered file: fed PyTorch's values, held against float64."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.core.tensors import COMPARED, Arrays, PlannedTap
from exporter.execution.deployment import Deployment
from exporter.execution.lockstep import Lockstep
from exporter.graph.exposed import expose_quantised
from exporter.graph.index import GraphIndex
from exporter.graph.node_formats import HeldPrecision, native_formats
from exporter.graph.program import Program
from exporter.graph.taps import NO_JOINS, Joins, plan_taps

_NEAR_FLOAT16 = 65504.0 / 2.0
"""Other inputs may be twice as loud."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnErrors:
    """What the layers of one file add on one case.

    Attributes:
        errors: tap -> its own error, float32, of the value's shape.
        relative: tap -> rms of the error over rms of the value.
        casts: of a file in float16, tap -> what rounding PyTorch's value does to it.
        overflowing: taps whose own value is not finite although PyTorch's is, or nearly so.
    """

    errors: Mapping[str, np.ndarray]
    relative: Mapping[str, float]
    casts: Mapping[str, np.ndarray]
    overflowing: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredFile:
    """A file in a lower precision, joined with the program.

    Attributes:
        planned: fates of the program's taps in it. lowered: taps that it computes in less.
        formats: what it holds anywhere.
    """

    graph: GraphIndex
    planned: tuple[PlannedTap, ...]
    lowered: frozenset[str]
    formats: tuple[str, ...]

    @classmethod
    def of(
        cls,
        program: Program,
        graph: GraphIndex,
        known: Collection[str] | None = None,
        joins: Joins = NO_JOINS,
    ) -> LoweredFile:
        """Find the taps of a file, and which of them it computes in a lower precision."""
        graph = expose_quantised(graph)
        planned = plan_taps(program, graph, known, joins)
        live = [tap for tap in planned if tap.fate == COMPARED and not tap.constant]
        precision = HeldPrecision(graph, [tap.onnx_name for tap in live], native_formats(program))
        lowered = {tap.tap.name for tap in live if precision.of(tap.onnx_name).formats}
        return cls(
            graph=graph, planned=planned, lowered=frozenset(lowered), formats=precision.formats
        )

    def shared(self, program: Program, plain: GraphIndex) -> tuple[PlannedTap, ...]:
        """Taps that the float32 file has as well, by their names there."""
        live = {tap.tap.name for tap in self.planned if tap.fate == COMPARED and not tap.constant}
        return tuple(tap for tap in plan_taps(program, plain) if tap.tap.name in live)


def own_errors(
    program: Program,
    file: LoweredFile,
    cases: Iterable[Arrays],
    deployment: Deployment,
    budget: int,
) -> list[OwnErrors]:
    """Walk PyTorch and the file in step, and keep what each lowered tap adds by itself.

    Args:
        cases: inputs of each; sessions that one has opened serve the next.
    """
    walk = Lockstep(program, file.graph, file.planned, deployment=deployment, budget=budget)
    return [_on(walk, file, inputs) for inputs in cases]


def _on(walk: Lockstep, file: LoweredFile, inputs: Arrays) -> OwnErrors:
    errors: dict[str, np.ndarray] = {}
    relative: dict[str, float] = {}
    casts: dict[str, np.ndarray] = {}
    overflowing: set[str] = set()
    for values in walk.walk(inputs):
        name = values.planned.tap.name
        truth = values.slices.whole() if values.slices is not None else values.truth_local
        if name not in file.lowered or values.forced is None or truth is None:
            continue
        if values.reference.dtype.kind != "f" or values.forced.shape != values.reference.shape:
            continue
        wrong = np.isfinite(truth) & ~np.isfinite(values.forced)
        narrow = "float16" in file.formats
        near = narrow and bool((np.abs(truth) > _NEAR_FLOAT16).any())
        if wrong.any() or near:
            overflowing.add(name)
        with np.errstate(invalid="ignore", over="ignore"):
            error = values.forced.astype(np.float64) - truth
            if narrow:
                casts[name] = _finite(values.reference.astype(np.float16) - values.reference)
        error = _finite(error)
        errors[name] = error.astype(np.float32)
        relative[name] = _rms(error) / max(_rms(np.where(np.isfinite(truth), truth, 0.0)), 1e-30)
    return OwnErrors(
        errors=errors, relative=relative, casts=casts, overflowing=frozenset(overflowing)
    )


def _finite(error: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(error), error, error.dtype.type(0.0))


def _rms(values: Sequence[float] | np.ndarray) -> float:
    array = np.asarray(values, np.float64)
    return float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0
