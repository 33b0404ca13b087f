"""What the formats of a file cost at its joined values: the file in real numbers, moved at random.

    float16        each value and constant by up to u of itself
    8 bits, 4 ...  by up to half a step of its grid: the file's own, or the one that the values'
                   range gives where the file takes it from them

Two roundings of one value are two draws of the same size (``parity.tolerance`` makes a limit of
it). What the file itself has rounded is not looked at, and no step counts that is far larger than
the numbers need: a wrong scale does not widen its own limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from exporter.core.tensors import Arrays
from exporter.graph.index import GraphIndex
from exporter.graph.lowered.in_real_numbers import unrounded
from exporter.graph.node_formats import HeldPrecision
from exporter.joining.evaluate import Values, evaluate
from exporter.joining.joined import Join, Proof
from exporter.joining.restored import Restored
from exporter.parity.measurement import Distance, Measurement
from exporter.parity.tolerance import FORMATS

DRAWS = 4
_NATIVE = ("float32", "float64")


class FormatCosts:
    """Costs on one case.

    Args:
        expected, actual: the files. inputs: of ``actual``.
        fed: of each joined value of ``actual``, what it is fed alone: the expected file's float32.
    """

    def __init__(
        self,
        expected: GraphIndex,
        actual: GraphIndex,
        restored: Restored,
        inputs: Arrays,
        fed: Mapping[str, Sequence[np.ndarray]],
        folder: Path,
    ):
        native = {*_NATIVE, *HeldPrecision(expected, (), _NATIVE).formats}
        self._held = HeldPrecision(actual, list(fed), native)
        self._restored = restored
        self._said: set[str] = set()
        outputs = [name for name in actual.outputs if name in actual.producer]
        names = dict.fromkeys([*fed, *outputs])
        self._local: dict[str, Distance] = {}
        self._free: dict[str, Distance] = {}
        plain = unrounded(actual, constants=restored.arrays).graph
        alone, along = Values(folder), Values(folder)
        evaluate(plain, [inputs], alone, forced=fed)
        evaluate(plain, [inputs], along)
        for seed in range(DRAWS):
            moved = unrounded(actual, constants=restored.arrays, noise=seed).graph
            random = np.random.default_rng(seed)
            drawn = Values(folder)
            evaluate(moved, [inputs], drawn, forced=_stored(self._held, fed, random))
            _widen(self._local, names, alone, drawn)
            drawn = Values(folder)
            evaluate(moved, [inputs], drawn)
            _widen(self._free, names, along, drawn)

    @cached_property
    def formats(self) -> tuple[str, ...]:
        """All that the file holds anywhere."""
        return self._held.formats

    def tell(
        self, join: Join, local: Measurement | None, free: Measurement
    ) -> tuple[Measurement | None, Measurement]:
        """The measurements of a joined value, with what the file holds there and what that costs.

        Args:
            local, free: of the value alone, and in a free run.
        """
        name = join.actual
        piece = self._held.of(name)
        local = local and _told(local, piece.formats, self._local.get(name))
        weights = [weight.name for weight in piece.weights]
        self._said.update(weights)
        said = self._restored.problem(weights, agrees=join.proof is Proof.VALUE)
        if said and local is not None and not local.problem:
            local = replace(local, problem=said)
        return local, self.output(name, free)

    def unsaid(self) -> str:
        """What is wrong with a constant that no joined value is computed with; "" for nothing."""
        names = {*self._restored.shifted, *self._restored.gains} - self._said
        return self._restored.problem(sorted(names))

    def output(self, name: str, measured: Measurement) -> Measurement:
        """The measurement of a free run, told the same."""
        return _told(measured, self._held.behind(name), self._free.get(name))


def _told(measured: Measurement, formats: tuple[str, ...], cost: Distance | None) -> Measurement:
    if measured.kind == "discrete":
        return measured
    return replace(measured, held=formats, cost=cost if formats else None)


def _stored(
    precision: HeldPrecision, fed: Mapping[str, Sequence[np.ndarray]], random: np.random.Generator
) -> Mapping[str, Sequence[np.ndarray]]:
    """What is fed, as the file holds it: float16 moves it by a rounding."""
    narrow = {name: precision.dtype(name) for name in fed}
    narrow = {name: dtype for name, dtype in narrow.items() if dtype in ("float16", "bfloat16")}
    return _Moved(fed, narrow, int(random.integers(1 << 30)))


class _Moved(Mapping[str, Sequence[np.ndarray]]):
    def __init__(
        self, fed: Mapping[str, Sequence[np.ndarray]], narrow: Mapping[str, str], seed: int
    ):
        self._fed, self._narrow, self._seed = fed, narrow, seed

    def __getitem__(self, name: str) -> Sequence[np.ndarray]:
        arrays = self._fed[name]
        if name not in self._narrow:
            return arrays
        roundoff = 2.0 * FORMATS[self._narrow[name]].roundoff
        random = np.random.default_rng([self._seed, len(name), *name.encode()])
        wide = (np.asarray(array, np.float64) for array in arrays)
        return [a * (1.0 + (random.random(a.shape) - 0.5) * roundoff) for a in wide]

    def __iter__(self):
        return iter(self._fed)

    def __len__(self) -> int:
        return len(self._fed)


def _widen(costs: dict[str, Distance], names: Iterable[str], plain: Values, drawn: Values) -> None:
    for name in names:
        ours, theirs = plain.one(name), drawn.one(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            continue
        if ours.dtype.kind != "f" or not ours.size:
            continue
        with np.errstate(invalid="ignore"):
            apart = np.abs(np.asarray(theirs) - np.asarray(ours))
        apart = np.where(np.isfinite(apart), apart, 0.0)
        known = costs.get(name)
        costs[name] = Distance(
            elements=ours.size,
            max_abs=max(float(apart.max()), (known.max_abs or 0.0) if known else 0.0),
            rms=max(float(np.sqrt(np.mean(apart * apart))), (known.rms or 0.0) if known else 0.0),
        )
