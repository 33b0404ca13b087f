"""Determinism: the same input gives the same output, whatever was run before and around it.

Two runs, with an unrelated input in between; one and several threads; another order of the batch.
Where the two differ a third run, with nothing in between, tells chance from memory. Randomness is
also seen directly: ops that are seeded announce it, and the file is searched for nodes that draw
numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch

from exporter.config.section import Many
from exporter.contracts.compare.align import reversals
from exporter.contracts.compare.noise import Noise, distance, noise_of
from exporter.contracts.determinism.onnx import check_onnx
from exporter.contracts.determinism.repeats import (
    AFTER_OTHER,
    TWICE,
    Finding,
    Moved,
    batch_of,
    compare,
    compare_turned,
    row_count,
    turned_batch,
    unrelated,
    verdict,
)
from exporter.contracts.locate.first import Judge, first_layer, locate, record
from exporter.contracts.locate.recorder import ModuleStack, calling_line
from exporter.contracts.probes import probe, short_probe
from exporter.contracts.result import TORCH, ContractResult, Location
from exporter.contracts.settings import ContractSettings
from exporter.contracts.state import held_tensors
from exporter.contracts.target import Target
from exporter.core.tensors import Arrays
from exporter.interpret.control_flow import OpMode
from exporter.interpret.evaluate import torch_threads

NAME = "determinism"


class Settings(ContractSettings):
    """Options.

    Attributes:
        bitwise: two runs of one input are equal bit by bit; False: within float32 noise.
        threads: counts that must agree within float32 noise; the first is the reference.
        caches: patterns of state that the caller resets between inputs.
    """

    bitwise: bool = True
    threads: Many[int] = (1, 2)
    caches: Many[str] = ()


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


def check(target: Target, settings: Settings) -> tuple[ContractResult, ...]:
    """Check both sides."""
    inputs = probe(target)
    noise = noise_of(target)
    found, tests = _torch(target, settings, inputs, noise)
    return (
        verdict(TORCH, found, tests, settings.bitwise),
        check_onnx(target, settings.bitwise, settings.threads, inputs, noise),
    )


def _torch(
    target: Target, settings: Settings, inputs: Arrays, noise: Noise
) -> tuple[Finding | None, list[str]]:
    """Run the tests in turn; the first that fails ends it."""
    tests = [TWICE, AFTER_OTHER]
    other = unrelated(target, inputs)
    first = target.recall(inputs)
    bad, drawing = _after_other(target, settings, inputs, other, first, noise)
    if bad is not None:
        second = compare(first, target.torch(inputs), noise, bitwise=settings.bitwise)
        if second is not None:
            where = drawing[0] if drawing else _first_moved(target, inputs)
            advice = (
                "switch dropout and dither off for inference, or draw the noise outside and pass it"
            )
            return Finding(test=TWICE, where=where, advice=advice, moved=second), [TWICE]
        where = _first_stale(target, settings, inputs, other, noise)
        advice = "reset or return the state that this module keeps, or declare it under caches"
        return Finding(test=AFTER_OTHER, where=where, advice=advice, moved=bad), tests
    for count in settings.threads[1:]:
        tests.append(f"{settings.threads[0]} and {count} threads")
        short = short_probe(target)
        one, many = (_with_threads(target, short, n) for n in (settings.threads[0], count))
        bad = compare(one, many, noise, bitwise=False)
        if bad is not None:
            advice = "avoid ops whose order of addition is not fixed (scatter_add, index_put)"
            return Finding(test=tests[-1], where=None, advice=advice, moved=bad), tests
    bad, where = _batch_order(target, short_probe(target), noise, tests)
    if bad is not None:
        advice = "compute nothing over the batch axis"
        return Finding(test=tests[-1], where=where, advice=advice, moved=bad), tests
    if drawing:
        tests.append(f"draws random numbers in {drawing[0]}, without effect on the outputs")
    return None, tests


def _with_threads(target: Target, inputs: Arrays, count: int) -> dict[str, np.ndarray]:
    with torch_threads(count):
        return target.recall(inputs)


def _after_other(
    target: Target, settings: Settings, inputs: Arrays, other: Arrays, first: Arrays, noise: Noise
) -> tuple[Moved | None, list[Location]]:
    """B, then A again, with the state kept; declared caches are reset in between.

    Returns:
        what differs from ``first``, and where random numbers are drawn.
    """
    with _caches_reset(target, settings) as reset:
        with ModuleStack(target.module) as stack, RandomOps(stack) as ops:
            target.torch(other, keep_state=True)
        reset()
        again = target.torch(inputs, keep_state=True)
    return compare(first, again, noise, bitwise=settings.bitwise), ops.places


def _first_stale(
    target: Target, settings: Settings, inputs: Arrays, other: Arrays, noise: Noise
) -> Location | None:
    """The first layer that still remembers another input."""
    clean = record(target, inputs)
    with _caches_reset(target, settings) as reset:
        target.torch(other, keep_state=True)
        reset()
        stale = record(target, inputs)
    return first_layer((clean, stale), _judge(noise, bitwise=settings.bitwise))


def _first_moved(target: Target, inputs: Arrays) -> Location | None:
    """The first layer, and the op in it, that gives something else the second time."""
    runs = (record(target, inputs), record(target, inputs))
    return locate(target, (inputs, inputs), runs, _judge(Noise(), bitwise=True))


@contextlib.contextmanager
def _caches_reset(target: Target, settings: Settings) -> Iterator[Callable[[], None]]:
    """Gives what resets the declared caches; all state is put back in the end."""
    saved = [
        (held.tensor, held.tensor.detach().clone())
        for held in held_tensors(target.module)
        if any(fnmatchcase(held.name, pattern) for pattern in settings.caches)
    ]

    def reset() -> None:
        with torch.no_grad():
            for tensor, copy in saved:
                tensor.copy_(copy)

    try:
        yield reset
    finally:
        reset()
        target.snapshot.restore()


def _batch_order(
    target: Target, inputs: Arrays, noise: Noise, tests: list[str]
) -> tuple[Moved | None, Location | None]:
    if target.batch is None:
        return None, None
    batch = batch_of(target, inputs)
    rows = row_count(target, batch)
    if rows < 2:
        return None, None
    tests.append("another order of the batch")
    reversed_batch = turned_batch(target, batch)
    left, right = target.torch(batch), target.torch(reversed_batch)
    bad = compare_turned(target, left, right, rows, noise)
    if bad is None:
        return None, None
    runs = (record(target, batch), record(target, reversed_batch))

    def judge(key: str, values: tuple[np.ndarray, ...]) -> bool:
        a, b = values
        if a.dtype.kind in "biu" or a.shape != b.shape:
            return False
        if not any(size and size % rows == 0 for size in a.shape):
            return False
        return not any(noise.explains(key, a, turned) for turned in reversals(b, rows, None))

    return bad, locate(target, (batch, reversed_batch), runs, judge)


def _judge(noise: Noise, *, bitwise: bool) -> Judge:
    def judge(key: str, values: tuple[np.ndarray, ...]) -> bool:
        return distance(*values) > 0.0 if bitwise else not noise.explains(key, *values)

    return judge
