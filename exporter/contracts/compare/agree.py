"""Do PyTorch and ONNX agree on one input? Judged by float32 noise, confirmed where it matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from exporter.contracts.compare.differ import Mismatch, MismatchKind, differ
from exporter.contracts.compare.noise import Noise, distance, measure_noise, scale_of
from exporter.contracts.target import ForwardError, Target
from exporter.core.tensors import Arrays
from exporter.parity.tolerance import natural_scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """The first output that differs.

    Attributes:
        difference: how it differs.
        beside: what ONNX was held against.
        fragile: PyTorch itself, when its input moves by rounding, gives results that are as far
            apart, takes as many decisions otherwise, or finds another number of things.
    """

    output: str
    difference: Mismatch
    fragile: bool = False
    beside: str = "PyTorch"

    def text(self) -> str:
        """A sentence: which output, and what differs."""
        return f"'{self.output}' {self.difference.text(f'in {self.beside}', 'in ONNX')}"


def disagreement(
    target: Target,
    inputs: Arrays,
    left: Arrays,
    right: Arrays,
    noise: Noise,
    *,
    fragile_agrees: bool = False,
) -> Disagreement | None:
    """Compare outputs; on a difference measure the noise on these very inputs first.

    Args:
        left: PyTorch's outputs on ``inputs``.
        right: ONNX's.
        noise: measured on some other input; good enough to pass.
        fragile_agrees: the caller treats ``fragile`` as agreement; as it is cheaper to find out
            than the noise, it is then asked first.
    """
    natural = {name: natural_scale_of(target, name) for name in left}
    moved = _Moved(target, inputs)
    disagreements = _all(left, right, noise, natural)
    if disagreements and fragile_agrees and moved.explain(disagreements, left, right):
        return replace(disagreements[0], fragile=True, beside=target.beside)
    if any(item.difference.kind is MismatchKind.VALUES for item in disagreements):
        disagreements = _all(left, right, measure_noise(target, inputs), natural)
    if not disagreements:
        return None
    return replace(
        disagreements[0], fragile=moved.explain(disagreements, left, right), beside=target.beside
    )


def _all(
    left: Arrays, right: Arrays, noise: Noise, natural: Mapping[str, float]
) -> list[Disagreement]:
    disagreements = []
    for name, value in left.items():
        other = right.get(name)
        if other is None:
            missing = Mismatch(kind=MismatchKind.MISSING)
            disagreements.append(Disagreement(output=name, difference=missing))
            continue
        away = differ(value, other, noise, name)
        if away is not None and away.kind is MismatchKind.VALUES:
            scale = max(scale_of(value, other), natural.get(name, 0.0))
            limit = noise.limit(name, scale, value.size)
            away = None if away.gap <= limit else replace(away, limit=limit)
        if away is not None:
            disagreements.append(Disagreement(output=name, difference=away))
    return disagreements


_MOST_MOVED = 4
_MOVING = frozenset(
    {"Reshape", "Slice", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Gather", "Flatten"}
)


def natural_scale_of(target: Target, output: str) -> float:
    """Range of the op that computes an output, for ops that are accurate in absolute terms
    (a probability, see ``exporter.parity.tolerance``); 0.0 for all others."""
    graph, output = target.onnx.file.graph, target.onnx.names.get(output, output)
    while True:
        node = graph.producer.get(output)
        if node is None:
            return 0.0
        kind = graph.nodes[node].op_type
        if kind not in _MOVING:
            return natural_scale(kind) or 0.0
        output = graph.nodes[node].input[0]


class _Moved:
    """PyTorch's outputs when the float inputs move by a unit in the last place."""

    def __init__(self, target: Target, inputs: Arrays):
        self._target = target
        self._inputs = inputs
        self._generator = np.random.Generator(np.random.PCG64(3))
        self._runs: list[dict[str, np.ndarray]] = []

    def explain(self, differing: list[Disagreement], left: Arrays, right: Arrays) -> bool:
        """They move as far (within a factor of two): then neither side can be called wrong.

        Every further run can only excuse more, so the first that does ends it.
        """
        if any(item.difference.kind is MismatchKind.MISSING for item in differing):
            return False
        names = [item.output for item in differing]
        for count in range(1, _MOST_MOVED + 1):
            try:
                runs = self._first(count)
            except ForwardError:
                return False
            if all(within_reach(left[n], right[n], [run[n] for run in runs]) for n in names):
                return True
        return False

    def _first(self, count: int) -> list[dict[str, np.ndarray]]:
        while len(self._runs) < count:
            moved = {
                key: (value * (1 + self._generator.choice([-1, 1], value.shape) * 2.0**-23)).astype(
                    value.dtype
                )
                if value.dtype.kind == "f"
                else value
                for key, value in self._inputs.items()
            }
            self._runs.append(self._target.torch(moved))
        return self._runs[:count]


def within_reach(left: np.ndarray, right: np.ndarray, moved: list[np.ndarray]) -> bool:
    """``right`` lies within twice the distance of the furthest of ``moved``, both from ``left``."""
    if left.shape != right.shape:
        if left.ndim != right.ndim or any(run.ndim != left.ndim for run in moved):
            return False
        sizes = np.array([run.shape for run in moved])
        steps = np.abs(sizes - left.shape).max(axis=0)
        return bool((np.abs(np.array(right.shape) - left.shape) <= 2 * steps).all())
    if left.dtype.kind in "biu":
        gap = float((left != right).sum())
    elif not np.isfinite(gap := distance(left, right)):
        return False
    if any(run.shape != left.shape for run in moved):
        return True  # behind a decision that rounding takes either way
    if left.dtype.kind in "biu":
        return gap <= 2 * max(float((left != run).sum()) for run in moved)
    return gap <= 2 * max(distance(left, run) for run in moved)
