"""Sizes that are chosen to break a file: the outputs of every link, from the module on.

A capture may have frozen what the example's sizes happened to be, and an exporter may round sizes
in another way than Python. The sizes of the cases are few, and often like the example's, so others
are tried by themselves: odd ones, primes, the smallest and largest that an axis may have, a row
alone, and those beside the numbers that the capture rests on.
Only a user's own model is tried, whose inputs can be made at any size, and only while that is
cheap. A size at which the module itself stops shows nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from exporter.core.tensors import Axis, Case, TensorSpec
from exporter.graph.guards import Guard
from exporter.judge.case_run import CaseRun, run_once
from exporter.judge.outputs import OutputResult
from exporter.judge.subject import Sizes, Subject
from exporter.parity.status import Status, is_good

_MOST_SIZES = 12
_SECONDS = 4.0
"""What all sizes together may take; what one run has shown to be longer is not begun."""
_LARGEST = 4096
"""Sizes far beyond the example's are not tried: memory may grow with their square."""
_PRIMES = (3, 5, 7, 11, 13, 17, 23, 31, 43, 61, 89, 127, 181, 251, 359, 509, 719, 1021, 1447, 2053)

Make = Callable[[Mapping[str, int]], Mapping[str, Tensor]]
Judge = Callable[[CaseRun], list[OutputResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep found of the captured program.

    Attributes:
        runs, results: of the sizes at which the program is not the module.
        held: runs at the sizes at which it is; files are held against them.
        left: sizes that were not tried, for want of time.
        far: what the capture rests on that only sizes far beyond the example's break, in words.
        beyond: sizes beyond what the capture rests on at which the program stops: it gives no
            wrong value there, as with a limit of an axis.
    """

    runs: tuple[CaseRun, ...] = ()
    results: tuple[OutputResult, ...] = ()
    held: tuple[CaseRun, ...] = ()
    left: tuple[str, ...] = ()
    far: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()

    def differing(self, results: Sequence[OutputResult]) -> list[CaseRun]:
        """The runs that still fail, after a second opinion."""
        bad = {r.case for r in results if r.verdict.status is Status.FAIL}
        return [run for run in self.runs if run.stopped or run.case.name in bad]

    def without_doubt(self, results: Sequence[OutputResult]) -> list[OutputResult]:
        """``results`` without the decisions that are in doubt at a size of our choice.

        They say nothing of the file, and nobody asked for that size: it is not among those that
        agree, and that is all.
        """
        own = {run.case.name for run in self.held}
        return [r for r in results if r.case not in own or r.verdict.status is not Status.AMBIGUOUS]

    def notes(self, results: Sequence[OutputResult]) -> list[str]:
        """What a report says of it; ``results`` with those in doubt."""
        other = {r.case for r in results if not is_good(r.verdict.status)}
        agreed = [run.case.name for run in self.held if run.case.name not in other]
        found = []
        if agreed:
            found.append(f"outputs of every link also agree at {'; '.join(agreed)}")
        if self.left:
            found.append(f"not tried, the model is slow: {'; '.join(self.left)}")
        if self.beyond:
            said = "; ".join(self.beyond)
            found.append(f"the captured program does not take {said}; PyTorch does")
        if self.far:
            found.append(f"no size was tried, they are large, without: {'; '.join(self.far)}")
        return found


def sweep(subject: Subject, sizes: Sizes, judge: Judge) -> Swept:
    """Hold the captured program against the module at sizes of our choice.

    Args:
        judge: judges the first link of a run.
    """
    program = subject.program
    wanted = list(chosen_sizes(subject.inputs, sizes.example, program.guards))
    guards = program.guards
    if not program.fallback:
        # Of a trace all guards, for nothing has limited its axes; else what the module itself has
        # asked and no size so far answers otherwise: a product of sizes, one remainder of many.
        guards = [g for g in guards if g.by_model and not _breaks(g, subject.inputs, wanted)]
    broken = breaking_sizes(subject.inputs, sizes.example, guards)
    far = tuple(_far(subject.inputs, sizes.example, guards, broken))
    wanted = [*broken, *(at for at in wanted if at not in broken)]
    began = time.perf_counter()
    runs: list[CaseRun] = []
    results: list[OutputResult] = []
    held: list[CaseRun] = []
    longest = 0.0
    left: tuple[str, ...] = ()
    beyond: list[str] = []
    for number, at in enumerate(wanted):
        here = time.perf_counter()
        if here - began + longest > _SECONDS:
            left = tuple(_label(each) for each in wanted[number:])
            break
        run = _run(subject, sizes.make, at)
        if run is not None and run.stopped and at in broken and not program.fallback:
            beyond.append(_label(at))
        elif run is not None:
            found = judge(run)
            if run.stopped or any(r.verdict.status is Status.FAIL for r in found):
                runs.append(run)
                results += found
            else:
                held.append(run)
        longest = max(longest, time.perf_counter() - here)
    return Swept(
        runs=tuple(runs),
        results=tuple(results),
        held=tuple(held),
        left=left,
        far=far,
        beyond=tuple(beyond),
    )


def _run(subject: Subject, make: Make, at: Mapping[str, int]) -> CaseRun | None:
    """One size; None where the module does not take it."""
    try:
        inputs = {name: np.array(value.numpy()) for name, value in make(at).items()}
        case = Case(name=_label(at), inputs=inputs, origin="sizes of our choice")
        return run_once(subject.module, subject, case, empty_declared=True)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever the user's model raises: it takes no such size
        return None


def _label(at: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in at.items())


def chosen_sizes(
    inputs: Sequence[TensorSpec], example: Mapping[str, int], guards: Sequence[Guard]
) -> Iterator[dict[str, int]]:
    """Sizes of all axes, one of them moved at a time, then all together; the telling ones first."""
    axes = {axis.name: axis for spec in inputs for axis in spec.axes if axis.name in example}
    shapes = {spec.name: spec.shape for spec in inputs}
    near: dict[str, set[int]] = {name: set() for name in axes}
    for guard in guards:
        for name, axis in guard.inputs():
            label = shapes[name][axis] if name in shapes else None
            if label in near:
                near[str(label)] |= guard.numbers()
    ways = {name: _of_axis(axis, example[name], near[name]) for name, axis in axes.items()}
    seen = {tuple(example.values())}
    found: list[dict[str, int]] = []

    def add(at: dict[str, int]) -> None:
        if tuple(at.values()) not in seen:
            seen.add(tuple(at.values()))
            found.append(at)

    for rank in range(max((len(way) for way in ways.values()), default=0)):
        for name, way in ways.items():
            if rank < len(way):
                add({**example, name: way[rank]})
        if rank == 0:
            add({**example, **{name: way[0] for name, way in ways.items() if way}})
    yield from found[:_MOST_SIZES]


def breaking_sizes(
    inputs: Sequence[TensorSpec], example: Mapping[str, int], guards: Sequence[Guard]
) -> list[dict[str, int]]:
    """For each guard the size nearest to the example, of one axis moved alone, that breaks it."""
    axes = {axis.name: axis for spec in inputs for axis in spec.axes if axis.name in example}
    found: list[dict[str, int]] = []
    for guard in guards:
        speaks_of = {
            str(spec.shape[number])
            for spec in inputs
            for name, number in guard.inputs()
            if name == spec.name
        }
        for name in sorted(speaks_of & set(axes)):
            axis, at = axes[name], example[name]
            most = _LARGEST if axis.maximum is None else min(_LARGEST, axis.maximum)
            for size in sorted(range(1, most + 1), key=lambda size: abs(size - at)):
                sizes = {**example, name: size}
                if axis.takes(size) and _breaks(guard, inputs, [sizes]):
                    found.append(sizes)
                    break
    return [at for number, at in enumerate(found) if at not in found[:number]]


def _far(
    inputs: Sequence[TensorSpec],
    example: Mapping[str, int],
    guards: Sequence[Guard],
    tried: Sequence[Mapping[str, int]],
) -> Iterator[str]:
    """Guards that no size breaks which is tried, and a larger one of an axis does, in words."""
    shapes = {spec.name: spec.shape for spec in inputs}
    axes = {axis.name: axis for spec in inputs for axis in spec.axes if axis.name in example}
    beyond = [
        {**example, name: size}
        for name, axis in axes.items()
        for size in (2**power * axis.multiple_of for power in range(12, 31))
        if axis.takes(size)
    ]
    for guard in guards:
        if not _breaks(guard, inputs, tried) and _breaks(guard, inputs, beyond):
            yield guard.words(shapes)


def _breaks(guard: Guard, inputs: Sequence[TensorSpec], sizes: Sequence[Mapping[str, int]]) -> bool:
    """Whether a guard does not hold at one of some sizes of the axes."""
    return any(
        not guard.holds(
            {
                spec.name: [
                    at.get(size, 0) if isinstance(size, str) else size for size in spec.shape
                ]
                for spec in inputs
            }
        )
        for at in sizes
    )


def _of_axis(axis: Axis, example: int, near: set[int]) -> list[int]:
    """Sizes of one axis that are worth trying: another parity, a prime, the ends, near a guard."""
    highest = min(_LARGEST if axis.maximum is None else axis.maximum, max(4 * example, 64))
    prime = next((p for p in _PRIMES if p > example), example + 1)
    before = next((p for p in reversed(_PRIMES) if p < example), axis.minimum)
    beside = [size for number in sorted(near) for size in (number, number + 1, number - 1)]
    ends = [axis.minimum, *([axis.maximum] if axis.maximum is not None else [])]
    step = axis.multiple_of
    wanted = [example + step, prime, *beside[:6], before, *ends, 2 * example]
    # Of an axis that takes multiples alone, the multiples beside those.
    rounded = [size + -size % step for size in wanted]
    allowed = [size for size in rounded if 1 <= size <= highest and axis.takes(size)]
    return [size for size in dict.fromkeys(allowed) if size != example]
