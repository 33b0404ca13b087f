"""Determinism of the PyTorch module: its runs, what it draws and remembers, layer by layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch

from exporter.contracts.compare.align import reversals
from exporter.contracts.compare.noise import Noise, distance
from exporter.contracts.determinism.repeats import Pairs
from exporter.contracts.locate.first import Judge, first_layer, locate, record
from exporter.contracts.locate.recorder import ModuleStack, calling_line
from exporter.contracts.result import TORCH, Location
from exporter.contracts.state import held_tensors
from exporter.contracts.target import Target
from exporter.core.tensors import Arrays
from exporter.interpret.control_flow import OpMode
from exporter.interpret.evaluate import torch_threads


class RandomOps(OpMode):
    """Collects ops that draw random numbers."""

    def __init__(self, stack: ModuleStack):
        super().__init__()
        self._stack = stack
        self.places: list[Location] = []

    def op(self, func: Any, args: Any, kwargs: Any) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and not _is_off(func, args):
            place = Location(module=self._stack.current, op=str(func), source=calling_line())
            self.places.append(place)
        return func(*args, **kwargs)


def _is_off(func: Any, args: Any) -> bool:
    """Ops that may draw, but were told not to: dropout of 0, attention without dropout."""
    name = str(func)
    if "scaled_dot_product" in name:
        numbers = [a for a in args[3:] if isinstance(a, float) and not isinstance(a, bool)]
        return not any(0.0 < number < 1.0 for number in numbers[:1])
    if "dropout" in name:
        flags = [a for a in args[1:] if isinstance(a, bool)]
        return bool(args[1:]) and (args[1] == 0.0 or False in flags)
    # A recurrent layer draws only for its dropout, which is off in eval.
    return any(kind in name for kind in ("lstm", "gru", "rnn"))


class TorchRuns:
    """The runs of the module.

    Attributes:
        drawing: where it draws random numbers, known after ``after``.
        leftover, stale, unordered: advice where two runs, runs after another input, or other
            numbers of threads differ.
    """

    name = TORCH
    leftover = "switch dropout and dither off for inference, or draw the noise outside and pass it"
    stale = "reset or return the state that this module keeps, or declare it under caches"
    unordered = "avoid ops whose order of addition is not fixed (scatter_add, index_put)"

    def __init__(
        self,
        target: Target,
        threads: tuple[int, ...],
        caches: tuple[str, ...],
        noise: Noise,
        *,
        bitwise: bool,
    ):
        self._target, self._threads, self._caches = target, threads, caches
        self._noise, self._bitwise = noise, bitwise
        self.run, self.recall = target.torch, target.recall
        self.drawing: list[Location] = []

    def after(self, other: Arrays, inputs: Arrays) -> Arrays:
        """What ``inputs`` give behind ``other``, with the state kept; declared caches are reset."""
        target = self._target
        with self._caches_reset() as reset:
            with ModuleStack(target.module) as stack, RandomOps(stack) as ops:
                target.torch(other, keep_state=True)
            self.drawing = ops.places
            reset()
            return target.torch(inputs, keep_state=True)

    def more_runs(self, inputs: Arrays) -> Pairs:
        """No further pairs of runs: ops that draw have been seen."""
        return iter(())

    def threads(self, inputs: Arrays) -> Pairs:
        """The first number of threads with each of the others."""
        first = self._threads[0]
        for count in self._threads[1:]:
            runs = []
            for number in (first, count):
                with torch_threads(number):
                    runs.append(self.recall(inputs))
            yield f"{first} and {count} threads", *runs

    def first_moved(self, inputs: Arrays) -> Location | None:
        """The first layer, and the op in it, that gives something else the second time."""
        runs = (record(self._target, inputs), record(self._target, inputs))
        return locate(self._target, (inputs, inputs), runs, _judge(Noise(), bitwise=True))

    def first_stale(self, other: Arrays, inputs: Arrays) -> Location | None:
        """The first layer that still remembers another input."""
        clean = record(self._target, inputs)
        with self._caches_reset() as reset:
            self._target.torch(other, keep_state=True)
            reset()
            stale = record(self._target, inputs)
        return first_layer((clean, stale), _judge(self._noise, bitwise=self._bitwise))

    def first_turned(self, batch: Arrays, turned: Arrays, rows: int) -> Location | None:
        """The first layer whose rows are others in another order, and the op in it."""

        def judge(key: str, values: tuple[np.ndarray, ...]) -> bool:
            a, b = values
            if a.dtype.kind in "biu" or a.shape != b.shape:
                return False
            if not any(size and size % rows == 0 for size in a.shape):
                return False
            return not any(self._noise.explains(key, a, way) for way in reversals(b, rows, None))

        runs = (record(self._target, batch), record(self._target, turned))
        return locate(self._target, (batch, turned), runs, judge)

    @contextlib.contextmanager
    def _caches_reset(self) -> Iterator[Callable[[], None]]:
        """Gives what resets the declared caches; all state is put back in the end."""
        saved = [
            (entry.tensor, entry.tensor.detach().clone())
            for entry in (held_tensors(self._target.module) if self._caches else ())
            if any(fnmatchcase(entry.name, pattern) for pattern in self._caches)
        ]

        def reset() -> None:
            with torch.no_grad():
                for tensor, copy in saved:
                    tensor.copy_(copy)

        try:
            yield reset
        finally:
            reset()
            self._target.snapshot.restore()


def _judge(noise: Noise, *, bitwise: bool) -> Judge:
    def judge(key: str, values: tuple[np.ndarray, ...]) -> bool:
        return distance(*values) > 0.0 if bitwise else not noise.explains(key, *values)

    return judge
