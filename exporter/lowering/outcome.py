"""What a lowered file does where it matters: it is run, and held against float64 PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from exporter.core.tensors import COMPARED, Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import ModelRun
from exporter.graph.onnx_file import read_in_place
from exporter.graph.program import Program
from exporter.interpret.evaluate import to_array, widen
from exporter.interpret.flipped import whole_outputs
from exporter.interpret.margins import margin_of
from exporter.interpret.propagated import Targets
from exporter.interpret.run_program import values_of
from exporter.lowering.own_errors import LoweredFile

NOISE = 4.0
"""Times float32's own error: below such a margin a decision is float32's own doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A file on one case.

    Attributes:
        error: relative rms error at the targets, theirs added in squares; inf where a value is not
            a number, or has no room, None where nothing could be compared.
        flips: elements of outputs that are not PyTorch's: of integers, and of floats of
            which there are more or fewer.
        doubtful: such elements that are float32's own doubt and no flips: decisions went another
            way, all of them are known, and float64's margin is within float32's noise at each.
        turned: decisions that went another way beyond the noise, seen in an output or not.
        decisions: how many there are.
    """

    error: float | None
    flips: int
    doubtful: int
    turned: int
    decisions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchOutcome:
    """PyTorch on one case.

    Attributes:
        exact: targets in float64. plain: decisions, as float32 takes them. whole: integer outputs.
        distance, noise: of each decision, float64's margins and float32's error there.
    """

    exact: Mapping[str, np.ndarray]
    plain: Mapping[str, np.ndarray]
    whole: Mapping[str, np.ndarray]
    distance: Mapping[str, np.ndarray]
    noise: Mapping[str, float]


def truth_of(program: Program, inputs: Arrays, targets: Targets) -> TorchOutcome:
    """Run PyTorch in float32 and float64."""
    ops = {op.name: op for op in program.ops}
    sides = {name for decision in targets.decisions for name in ops[decision].refs()}
    whole = whole_outputs(program)
    names = {*targets.values, *targets.decisions, *sides, *whole}
    plain, wide = values_of(program, inputs, names, targets.values)

    def exact(name: str) -> object:
        return wide.get(name, plain[name])

    distance, noise = {}, {}
    for name in targets.decisions:
        asked = margin_of(ops[name], plain.__getitem__, exact, producer=ops.get)
        if asked is None:
            continue
        margin = asked()
        distance[name] = margin.distance
        noise[name] = margin.noise
    return TorchOutcome(
        exact={name: to_array(widen(exact(name))) for name in targets.values},
        plain={name: to_array(plain[name]) for name in targets.decisions},
        whole={name: to_array(plain[name]) for name in whole},
        distance=distance,
        noise=noise,
    )


class TargetRun:
    """A file that gives the targets as well as its outputs."""

    def __init__(
        self,
        program: Program,
        path: Path,
        file: LoweredFile,
        targets: Targets,
        deployment: Deployment,
    ):
        names = {tap.tap.name: tap for tap in file.planned if tap.fate == COMPARED}
        self._names = {
            name: names[name].onnx_name
            for name in (*targets.values, *targets.decisions, *whole_outputs(program))
            if name in names and names[name].onnx_name in file.graph.producer
        }
        # An output that nothing computes is a constant, and an output of the file all the same.
        labels = dict(zip(program.outputs, program.output_names, strict=True))
        for name in whole_outputs(program):
            if labels[name] in file.graph.outputs:
                self._names.setdefault(name, labels[name])
        # Its weights stay in the file: onnxruntime maps them, and nobody copies a gigabyte.
        self._run = self._opened(read_in_place(path, again=True), deployment, path.parent)
        self._targets = targets

    def _opened(
        self, model: onnx.ModelProto, deployment: Deployment, folder: Path | None = None
    ) -> ModelRun:
        known = {value.name for value in model.graph.output}
        for name in dict.fromkeys(self._names.values()):
            if name not in known:
                model.graph.output.add(name=name)
        return ModelRun(model, deployment, folder)

    def on(self, model: onnx.ModelProto, deployment: Deployment) -> TargetRun:
        """The same for a changed copy of the file, whose values have the same names."""
        other = copy(self)
        other._run = self._opened(model, deployment)
        return other

    @property
    def missing(self) -> tuple[str, ...]:
        """Targets that the file does not hold."""
        every = (*self._targets.values, *self._targets.decisions)
        return tuple(name for name in every if name not in self._names)

    def targets(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The targets that the file holds, by the program's names."""
        outputs = self._run.run(inputs)
        return {name: outputs[onnx_name] for name, onnx_name in self._names.items()}

    def outcome(self, inputs: Arrays, truth: TorchOutcome) -> Outcome:
        """Run the file on a case and compare."""
        values = self.targets(inputs)
        turned = count = differing = 0
        for name, distance in truth.distance.items():
            ours, theirs = truth.plain[name], values.get(name)
            count += ours.size
            if theirs is None:
                continue
            if theirs.size != ours.size:
                turned += 1
                continue
            differ = theirs.reshape(ours.shape) != ours
            gaps = np.broadcast_to(distance, ours.shape)[differ]
            differing += gaps.size
            # A margin that is NaN is within no noise.
            turned += int((~(gaps <= NOISE * truth.noise[name])).sum())
        other = sum(_other(values.get(name), ours) for name, ours in truth.whole.items())
        shapes = ((values[name], exact) for name, exact in truth.exact.items() if name in values)
        other += sum(_other(ours, exact) for ours, exact in shapes if ours.size != exact.size)
        # What no decision explains (numbers that are rounded, a decision that is not in the file)
        # is nobody's doubt.
        known = all(name in values for name in truth.distance)
        doubt = bool(differing) and not turned and known
        return Outcome(
            error=_error(values, truth),
            flips=0 if doubt else other,
            doubtful=other if doubt else 0,
            turned=turned,
            decisions=count,
        )


def _other(theirs: np.ndarray | None, ours: np.ndarray) -> int:
    """Elements that differ; of other shapes, at least one; all of what the file does not hold."""
    if theirs is None:
        return max(1, ours.size)
    if theirs.shape == ours.shape:
        return int((theirs != ours).sum())
    return max(1, abs(theirs.size - ours.size))


def _error(values: Mapping[str, np.ndarray], truth: TorchOutcome) -> float | None:
    total, compared = 0.0, False
    for name, exact in truth.exact.items():
        value = values.get(name)
        # Of another size it stands behind a decision that went another way, and is a flip.
        if value is None or not exact.size or value.shape != exact.shape:
            continue
        if np.isnan(exact).any() or np.isnan(value).any():
            return float("inf")
        compared = True
        finite = np.isfinite(exact)
        if not np.isfinite(value[finite]).all():
            return float("inf")
        apart = value[finite].astype(np.float64) - exact[finite]
        size = float(np.mean(np.square(exact[finite]))) if finite.any() else 0.0
        if finite.any():
            total += float(np.mean(np.square(apart))) / max(size, 1e-60)
    return float(np.sqrt(total)) if compared else None
