"""The same input, again: what a module keeps between calls, and what it draws at random.

A file keeps nothing between calls, and onnxruntime draws other numbers than torch. Both have to be
found before values are compared: what moves by itself cannot be judged by a distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from exporter.core.tensors import Arrays, TensorSpec
from exporter.graph.kept_state import KeptState
from exporter.interpret.decisions import SEED
from exporter.interpret.eager import run_plain
from exporter.parity.tolerance import FORMATS

_UNITS = 64.0
"""Units of roundoff by which two runs may differ: threads may add in another order."""
_LOUDER = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """What calling a module again showed.

    Attributes:
        state: why it is no function of its inputs; "" when it is one.
        moving: outputs that follow the seed of random numbers, and by how much.
    """

    state: str = ""
    moving: Mapping[str, float] = field(default_factory=dict)


class Repeats:
    """One case, run before everything else, right after itself, and after other inputs.

    Args:
        module: called with one tensor per input.
        specs: of inputs and outputs, in order. arrays: one per input.
    """

    def __init__(
        self,
        module: nn.Module,
        specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
        arrays: Arrays,
    ) -> None:
        self._module = module
        self._specs = specs
        self._arrays = arrays
        self._attributes = KeptState(module)
        self._first = self._run(SEED)

    def _run(self, seed: int, arrays: Arrays | None = None) -> Arrays:
        return run_plain(self._module, *self._specs, arrays or self._arrays, seed=seed)

    def finish(self, second: Arrays, *, others_ran: bool) -> Repeated:
        """Compare the first run with later ones.

        Args:
            second: what the same input gave right after the first run, with the same seed.
            others_ran: other inputs were run since; else one is run now.
        """
        again = moved(self._first, second)
        if again:
            return Repeated(state=self._words("called twice on one input", again))
        if not others_ran:
            self._run(SEED, _louder(self._arrays))
        other_seed = moved(self._first, self._run(SEED + 1))
        if not other_seed:
            return Repeated()
        same_seed = moved(self._first, self._run(SEED))
        if same_seed:
            return Repeated(state=self._words("called again after another input", same_seed))
        return Repeated(moving=other_seed)

    def _words(self, when: str, gaps: Mapping[str, float]) -> str:
        name, gap = max(gaps.items(), key=lambda item: item[1])
        changed = self._attributes.changed()
        where = f" ({', '.join(changed[:3])})" if changed else ""
        return (
            f"PyTorch keeps something between calls{where}: {when}, '{name}' differs by {gap:.3g};"
            " a file keeps nothing: make it an input and an output, and name both under states"
        )


def moved_by_seed(
    module: nn.Module,
    specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    arrays: Arrays,
    outputs: Arrays,
) -> dict[str, float]:
    """Outputs that are others when random numbers start elsewhere."""
    return moved(outputs, run_plain(module, *specs, arrays, seed=SEED + 1))


def moved(before: Arrays, after: Arrays) -> dict[str, float]:
    """Outputs that differ by more than the order of additions explains, and by how much.

    The gap of integers that differ is their number; another shape is an infinite gap.
    """
    shares = {}
    for name, left in before.items():
        right = after[name]
        if left.shape != right.shape:
            shares[name] = float("inf")
        elif left.dtype.kind not in "fc":
            unequal = int(np.count_nonzero(left != right))
            if unequal:
                shares[name] = float(unequal)
        elif left.size and not np.array_equal(left, right, equal_nan=True):
            gap, scale = _gap(left, right)
            unit = FORMATS.get(left.dtype.name, FORMATS["float32"]).roundoff
            if not gap <= _UNITS * unit * scale:
                shares[name] = gap
    return shares


def _gap(left: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    with np.errstate(all="ignore"):
        gaps = np.abs(left.astype(np.complex128) - right.astype(np.complex128))
        gaps = np.where((left == right) | (np.isnan(left) & np.isnan(right)), 0.0, gaps)
        sizes = np.abs(left[np.isfinite(left)])
    return float(gaps.max()), float(sizes.max(initial=0.0))


def _louder(arrays: Arrays) -> Arrays:
    """Another input of the same sizes: floats turned round and louder, integers as they are."""
    return {
        name: (value[..., ::-1] * _LOUDER).astype(value.dtype)
        if value.dtype.kind == "f" and value.ndim
        else value
        for name, value in arrays.items()
    }
