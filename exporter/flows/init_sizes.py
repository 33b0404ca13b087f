"""Sizes that a file takes, found by running it; and which axis holds rows that know of no other.

1  a set of sizes at which it runs: usual ones of waveforms, windows and frames, in turn
2  per axis: is every size right, every multiple, or this one alone? where does it begin and end?
3  rows: turned round, does the output turn round? then they are a batch
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exporter.contracts.compare.noise import distance, scale_of
from exporter.core.errors import ModelError, OnnxStoppedError, UserInputError, first_line
from exporter.core.tensors import Axis
from exporter.draft.found_axis import FoundAxis
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.joining.interface_inputs import Input
from exporter.models.limits import find_limits

BATCH = "batch"
RATE = 16_000
_WAVEFORM = (16_000, 8_000, 4_800, 2_560, 1_600, 1_280, 960, 640, 576, 512, 480, 400, 320, 256, 160)
_WINDOWS = (512, 576, 480, 320, 640, 256, 160, 1_280, 1_600, 16_000)
_FRAMES = (100, 64, 40, 33, 32, 16, 10, 8, 5, 4, 2, 1)
_RATES = re.compile(r"^(sr|fs|rate|sampl\w*_?rate\w*)$", re.I)
_LENGTHS = re.compile(r"len(gth)?s?($|_)", re.I)
_MOST_STEP = 2_048
_MOST_ELEMENTS = 1 << 24


@dataclass(kw_only=True)
class FileProbe:
    """A file that is run to learn what it takes.

    Attributes:
        inputs: with names of axes as they are in the YAML. states: inputs that carry state.
        lengths: input of integers -> the axis that it counts.
    """

    path: Path
    inputs: tuple[Input, ...]
    states: frozenset[str] = frozenset()
    lengths: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._run = FileRun(self.path, Deployment())
        self.problem = ""

    def arrays(self, sizes: Mapping[str, int], seed: int = 0) -> dict[str, np.ndarray]:
        """Inputs of these sizes: floats a signal of 0.1, rates 16,000, lengths whole, ids small."""
        random = np.random.default_rng(seed)
        arrays = {}
        for item in self.inputs:
            shape = tuple(sizes[size] if isinstance(size, str) else size for size in item.shape)
            arrays[item.name] = self._array(item, shape, sizes, random)
        return arrays

    def _array(
        self,
        item: Input,
        shape: tuple[int, ...],
        sizes: Mapping[str, int],
        random: np.random.Generator,
    ) -> np.ndarray:
        if item.name in self.states:
            return np.zeros(shape, item.dtype)
        if item.dtype.kind == "f":
            return (0.1 * random.standard_normal(shape)).astype(item.dtype)
        if item.dtype.kind == "b":
            return np.ones(shape, item.dtype)
        if is_rate(item):
            return np.full(shape, RATE, item.dtype)
        if item.name in self.lengths:
            return np.full(shape, sizes[self.lengths[item.name]], item.dtype)
        return random.integers(0, 2, shape).astype(item.dtype)

    def outputs(self, sizes: Mapping[str, int], seed: int = 0) -> dict[str, np.ndarray] | None:
        """What the file gives; ``None`` where it does not run, and ``problem`` says why."""
        shapes = [[sizes.get(str(s), s) for s in item.shape] for item in self.inputs]
        if max((math.prod(map(int, shape)) for shape in shapes), default=0) > _MOST_ELEMENTS:
            return None
        try:
            return self._run.run(self.arrays(sizes, seed))
        except (OnnxStoppedError, ValueError, TypeError) as error:
            self.problem = self.problem or first_line(error, 300)
            return None

    def first_sizes(self) -> dict[str, int]:
        """Sizes at which the file runs.

        Raises:
            UserInputError: none were found.
        """
        names = list(dict.fromkeys(s for i in self.inputs for s in i.shape if isinstance(s, str)))
        few = self.few()
        long = [name for name in names if name not in few]
        for size in self._candidates():
            for batch in (2, 1):
                sizes = {name: batch if name in few else size for name in names}
                for tried in self._spread(sizes, long):
                    if self.outputs(tried) is not None:
                        return tried
                if not few:
                    break
        raise UserInputError(
            f"no sizes were found at which the file runs: {self.problem}",
            where=str(self.path),
            remedy="give some with --size AXIS=N; the axes are: " + ", ".join(names),
        )

    def few(self) -> set[str]:
        """Axes that may be rows: the first of several that vary, or of what is large already."""
        axes = {BATCH}
        for item in self.inputs:
            varying = [size for size in item.shape if isinstance(size, str)]
            first = bool(varying) and item.shape[0] == varying[0] and item.name not in self.states
            if first and (len(varying) > 1 or item.is_large):
                axes.add(varying[0])
        return axes & {size for item in self.inputs for size in item.shape if size == str(size)}

    def _spread(self, sizes: dict[str, int], long: Sequence[str]) -> list[dict[str, int]]:
        """The sizes, and the same with all but one long axis at small sizes, which caches have."""
        spread = [sizes]
        if len(long) > 1:
            spread += [
                {**sizes, **{other: small for other in long if other != name}}
                for name in long[:3]
                for small in (16, 4)
            ]
        return spread

    def _candidates(self) -> tuple[int, ...]:
        waves = any(is_waveform(item) and item.name not in self.states for item in self.inputs)
        if not waves:
            return _FRAMES
        return (*_WINDOWS, *_FRAMES) if self.states else (*_WAVEFORM, *_FRAMES)

    def axis(self, name: str, sizes: Mapping[str, int]) -> FoundAxis:
        """The sizes that one axis takes, the others as they are."""
        here = sizes[name]

        def runs(size: int) -> bool:
            return size > 0 and self.outputs({**sizes, name: size}) is not None

        if name == BATCH:
            if runs(3) and runs(1):
                return FoundAxis(name=name, example=max(here, 2), why="1 and 3 rows run")
            return FoundAxis(name=name, example=here, fixed=True, why="another number stops it")
        step = 1 if runs(here + 1) or runs(here - 1) else self._step(here, runs)
        if step is None:
            return FoundAxis(name=name, example=here, fixed=True, why="no other size runs")
        limits = find_limits(
            self._raising(sizes), {name: Axis(name=name, multiple_of=step)}, {name: here}
        )
        low = next((limit.minimum for limit in limits if limit.minimum is not None), None)
        high = next((limit.maximum for limit in limits if limit.maximum is not None), None)
        lowest = low or step
        if self.states and not self._followed(name, sizes, lowest, high):
            why = f"a call takes one window: {lowest} to {high or 'more'} run, {here} was chosen"
            return FoundAxis(name=name, example=here, fixed=True, why=why)
        seen = f"{lowest} to {high}" if high else f"{lowest} and {2 * here} run"
        return FoundAxis(
            name=name,
            example=here,
            minimum=lowest,
            maximum=high,
            multiple_of=step,
            why=seen + (f", in multiples of {step}" if step > 1 else ""),
        )

    def _followed(
        self, name: str, sizes: Mapping[str, int], lowest: int, highest: int | None
    ) -> bool:
        """Whether an output has more steps where the axis has."""
        ends = [self.outputs({**sizes, name: at}) for at in (lowest, highest or 2 * sizes[name])]
        left, right = ends
        if left is None or right is None:
            return True
        return any(left[key].shape != right[key].shape for key in left)

    def _raising(self, sizes: Mapping[str, int]) -> Callable[[Mapping[str, int]], object]:
        def run(at: Mapping[str, int]) -> object:
            outputs = self.outputs({**sizes, **at})
            if outputs is None:
                raise ModelError("the file does not run at this size")
            return outputs

        return run

    def _step(self, here: int, runs: Callable[[int], bool]) -> int | None:
        steps = [n for n in range(2, min(here, _MOST_STEP) + 1) if here % n == 0]
        return next((n for n in steps if runs(here + n) and (here == n or runs(here - n))), None)

    def rows(self, sizes: Mapping[str, int], axis: str) -> bool:
        """Whether rows along an axis that turn round turn every output round, and nothing else."""
        at = {**sizes, axis: 3}
        arrays = self.arrays(at, seed=5)
        turned = {
            item.name: np.flip(arrays[item.name], item.shape.index(axis))
            if axis in item.shape
            else arrays[item.name]
            for item in self.inputs
        }
        try:
            plain, other = self._run.run(arrays), self._run.run(turned)
        except (OnnxStoppedError, ValueError):
            return False
        moved = False
        for name, value in plain.items():
            places = [k for k, size in enumerate(value.shape) if size == 3]
            limit = 1e-4 * max(scale_of(value), 1e-30)
            if not any(distance(value, np.flip(other[name], k)) <= limit for k in places):
                return False
            moved = moved or distance(value, other[name]) > limit
        return moved


def is_waveform(item: Input) -> bool:
    """A signal of floats with an axis of samples that varies, and nothing but rows beside it."""
    shape = item.shape
    rest = shape[:-1] if shape else ()
    small = all(isinstance(size, str) or size == 1 for size in rest)
    return item.dtype.kind == "f" and 1 <= len(shape) <= 3 and small and isinstance(shape[-1], str)


def is_rate(item: Input) -> bool:
    """One integer that is called as a sample rate is."""
    return item.dtype.kind in "iu" and bool(_RATES.match(item.name.split(":")[0].split("/")[-1]))


def is_lengths(item: Input) -> bool:
    """Integers, one a row, that are called lengths."""
    few = len(item.shape) <= 1
    return item.dtype.kind in "iu" and few and bool(_LENGTHS.search(item.name.split(":")[0]))
