"""Do PyTorch and ONNX agree on one input? Judged by float32 noise, confirmed where it matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from exporter.contracts.noise import Noise, distance, measure_noise, scale_of
from exporter.contracts.subject import ForwardError, Subject
from exporter.parity.tolerance import natural_scale
from exporter.tensors import Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """The first output that differs.

    Attributes:
        fragile: a discrete output whose differing elements also flip in PyTorch when its input
            moves by rounding.
    """

    output: str
    gap: float
    limit: float
    what: str
    fragile: bool = False


def disagreement(
    subject: Subject,
    inputs: Arrays,
    left: dict[str, np.ndarray],
    right: dict[str, np.ndarray],
    noise: Noise,
) -> Disagreement | None:
    """Compare outputs; on a difference measure the noise on these very inputs first.

    Args:
        left: PyTorch's outputs on ``inputs``.
        right: ONNX's.
        noise: measured on some other input; good enough to pass.
    """
    natural = {name: natural_scale_of(subject, name) for name in left}
    first = _first(left, right, noise, natural)
    if first is None or first.what != "values":
        return first
    if np.isfinite(first.gap):
        first = _first(left, right, measure_noise(subject, inputs), natural)
        if first is None or first.what != "values" or np.isfinite(first.gap):
            return first
    bad = [
        name
        for name, value in left.items()
        if value.dtype.kind in "biu" and not np.array_equal(value, right[name])
    ]
    if bad and _are_fragile(subject, inputs, bad, left, right):
        return Disagreement(
            output=bad[0], gap=first.gap, limit=first.limit, what=first.what, fragile=True
        )
    return first


def _first(
    left: dict[str, np.ndarray],
    right: dict[str, np.ndarray],
    noise: Noise,
    natural: Mapping[str, float],
) -> Disagreement | None:
    for name, value in left.items():
        other = right.get(name)
        if other is None:
            return Disagreement(output=name, gap=np.inf, limit=0.0, what="missing in ONNX")
        if value.shape != other.shape:
            what = f"shape {list(value.shape)} in PyTorch, {list(other.shape)} in ONNX"
            return Disagreement(output=name, gap=np.inf, limit=0.0, what=what)
        gap = distance(value, other)
        scale = max(scale_of(value, other), natural.get(name, 0.0))
        limit = noise.limit(name, scale, value.size)
        if not gap <= limit:
            return Disagreement(output=name, gap=gap, limit=limit, what="values")
    return None


_MOVING = frozenset(
    {"Reshape", "Slice", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Gather", "Flatten"}
)


def natural_scale_of(subject: Subject, output: str) -> float:
    """Range of the op that computes an output, for ops that are accurate in absolute terms
    (a probability, see ``exporter.parity.tolerance``); 0.0 for all others."""
    graph = subject.onnx.made.graph
    while True:
        node = graph.producer.get(output)
        if node is None:
            return 0.0
        kind = graph.nodes[node].op_type
        if kind not in _MOVING:
            return natural_scale(kind) or 0.0
        output = graph.nodes[node].input[0]


def _are_fragile(
    subject: Subject,
    inputs: Arrays,
    names: list[str],
    left: dict[str, np.ndarray],
    right: dict[str, np.ndarray],
) -> bool:
    """As many elements flip in PyTorch itself when the float inputs move by a unit in the last
    place (within a factor of two): then neither side can be called wrong."""
    differing = sum(int((left[name] != right[name]).sum()) for name in names)
    generator = np.random.Generator(np.random.PCG64(3))
    most = 0
    for _ in range(4):
        moved = {
            key: (value * (1 + generator.choice([-1, 1], value.shape) * 2.0**-23)).astype(
                value.dtype
            )
            if value.dtype.kind == "f"
            else value
            for key, value in inputs.items()
        }
        try:
            found = subject.torch(moved)
        except ForwardError:
            return False
        if any(found[name].shape != left[name].shape for name in names):
            return False
        most = max(most, sum(int((found[name] != left[name]).sum()) for name in names))
    return most > 0 and differing <= 2 * most
