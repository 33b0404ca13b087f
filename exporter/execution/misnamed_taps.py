"""What the names of a file really hold, where a value is not the one that its name says.

A tool that rewrites a graph may leave a name standing for another value than before:

    PyTorch   x -> [conv] -> conv -> [batch_norm] -> bn -> [relu] -> relu
    the file  x -> [Conv, weights of both] -> conv ---------> [Relu] -> relu

``conv`` holds ``bn`` there. Fed PyTorch's ``conv``, the Relu gives nonsense, and the convolution
looks wrong as well, although every number that anybody needs is right.

The names that fail are held against the taps around them that the file has lost. One that holds
such a tap's value, by far better than its own, is that tap under another name: compared as such,
with the limits of every other tap. One that holds no tap's value may be something that the program
never had (a scale or a transpose that was moved across an op); it is a candidate only when the
file has lost a tap beside it that the pipeline's own file holds, and whether it is taken for one
is for the values behind it to show. In doubt the name keeps its meaning, and fails.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from exporter.core.tensors import COMPARED, Arrays, PlannedTap
from exporter.execution.deployment import Deployment
from exporter.execution.lockstep import Lockstep
from exporter.graph.index import GraphIndex
from exporter.graph.program import Program

_SAMPLE = 8192
"""Elements that are looked at of one value."""
_CLOSER = 3.0
"""A name holds another tap's value when it is this many times closer to it than to its own."""
_ALIKE = 0.5
"""Largest rms of the difference, over the rms of the value, of what may be one and the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What names in question hold.

    Attributes:
        names: tap -> the name under which the file holds it, another tap's.
        replaced: the taps whose names these are.
        doubtful: taps whose names hold no tap's value, beside which the file has lost taps.
    """

    names: Mapping[str, str]
    replaced: frozenset[str]
    doubtful: frozenset[str]


def settle(
    program: Program,
    graph: GraphIndex,
    planned: tuple[PlannedTap, ...],
    suspects: Collection[str],
    inputs: Arrays,
    *,
    expected_taps: Collection[str],
    deployment: Deployment,
    budget: int,
) -> Settled:
    """Find what the names of failing taps hold, on one case.

    Args:
        planned: with every name taken at its word. suspects: taps that fail by themselves.
        expected_taps: taps that the pipeline's own file holds under their names.
        budget: as for ``Lockstep``.
    """
    around = Neighbours(program, planned)
    lost = {name: tuple(around.lost(name)) for name in suspects}
    wanted = {name for names in lost.values() for name in names}
    candidates: dict[str, _Held] = {}
    references: dict[str, np.ndarray] = {}
    walk = Lockstep(program, graph, planned, deployment=deployment, budget=budget)
    for values in walk.walk(inputs):
        name = values.planned.tap.name
        if name in wanted or name in suspects:
            references[name] = _sample(values.reference)
        if name in suspects:
            # Free: what a user gets. Forced: where something further up is wrong.
            samples = [_sample(v) for v in (values.free, values.forced) if v is not None]
            candidates[name] = _Held(samples=samples)
    by_name = {tap.tap.name: tap.onnx_name for tap in planned}
    names: dict[str, str] = {}
    replaced: set[str] = set()
    for name in sorted(
        candidates, key=lambda n: (candidates[n].distance(references[n]), n), reverse=True
    ):
        other = _other(candidates[name], references, name, lost[name], names)
        if other is not None:
            names[other] = by_name[name]
            replaced.add(name)
    doubtful = {name for name in candidates if any(near in expected_taps for near in lost[name])}
    return Settled(
        names=names, replaced=frozenset(replaced), doubtful=frozenset(doubtful - replaced)
    )


def _other(
    candidate: _Held,
    references: Mapping[str, np.ndarray],
    name: str,
    lost: Iterable[str],
    taken: Collection[str],
) -> str | None:
    """The lost tap whose value a name holds, if there is one."""
    own = candidate.distance(references[name])
    rated = [
        (candidate.distance(references[other]), other)
        for other in lost
        if other in references and other not in taken
    ]
    if not rated:
        return None
    distance, best = min(rated)
    return best if distance < _ALIKE and distance * _CLOSER < own else None


@dataclass(slots=True)
class _Held:
    """What a name held in one run or two."""

    samples: list[np.ndarray] = field(default_factory=list)

    def distance(self, reference: np.ndarray) -> float:
        """Relative rms distance of the nearer one; infinite where nothing can be compared."""
        return min((_distance(sample, reference) for sample in self.samples), default=np.inf)


def _sample(value: np.ndarray) -> np.ndarray:
    """At most so many elements, the same ones of every value of that size, in float64."""
    flat = np.asarray(value, order="C").reshape(-1)
    if flat.size > _SAMPLE:
        step = flat.size // _SAMPLE
        # A prime stride's phase moves through every axis; equal sizes give equal places.
        flat = flat[(np.arange(_SAMPLE) * step + np.arange(_SAMPLE) % step) % flat.size]
    if flat.dtype.kind not in "f":
        return np.empty(0)
    return np.concatenate([[value.size], flat.astype(np.float64)])


def _distance(sample: np.ndarray, reference: np.ndarray) -> float:
    if sample.shape != reference.shape or sample.size < 2 or sample[0] != reference[0]:
        return np.inf
    left, right = sample[1:], reference[1:]
    finite = np.isfinite(right)
    if not np.array_equal(finite, np.isfinite(left)) or not finite.any():
        return np.inf
    scale = float(np.linalg.norm(right[finite]))
    return float(np.linalg.norm(left[finite] - right[finite])) / scale if scale else np.inf


class Neighbours:
    """Taps around a tap, up to the next ones that the file holds."""

    def __init__(self, program: Program, planned: tuple[PlannedTap, ...]):
        self._live = {tap.tap.name for tap in planned if tap.fate == COMPARED}
        self._taps = {tap.tap.name for tap in planned}
        self._reads = {op.name: tuple(op.refs()) for op in program.ops}
        self._users: dict[str, list[str]] = {}
        for op in program.ops:
            for name in self._reads[op.name]:
                self._users.setdefault(name, []).append(op.name)

    def lost(self, name: str) -> Iterator[str]:
        """Lost taps on the ways behind ``name``, then on those in front of it."""
        seen = {name}
        for step in (self._users, self._reads):
            stack = list(step.get(name, ()))
            while stack:
                at = stack.pop(0)
                if at in seen or at in self._live or at not in self._reads:
                    continue
                seen.add(at)
                if at in self._taps:
                    yield at
                stack.extend(step.get(at, ()))

    def behind(self, name: str) -> frozenset[str]:
        """The nearest compared taps on every way behind ``name``."""
        behind_names: set[str] = set()
        seen: set[str] = set()
        stack = list(self._users.get(name, ()))
        while stack:
            at = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            if at in self._live:
                behind_names.add(at)
            else:
                stack.extend(self._users.get(at, ()))
        return frozenset(behind_names)
