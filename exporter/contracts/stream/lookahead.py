"""How far a model looks ahead, measured at every module: the whole with another future.

    steps    0 1 2 3 4 5 6 7 | # # # #      other values from step p on
    frames   = = = = = # # # # # # # #      frame 5 is the first that differs: it has read step p

Frame f of a result with r frames a step ends with step (f + 1) / r; what it reads behind that is
lookahead. float64, so that rounding says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from exporter.contracts.locate.recorder import Call, Recorder
from exporter.contracts.probes import replaced
from exporter.contracts.result import Location
from exporter.contracts.target import ForwardError, Target, as_view
from exporter.core.tensors import Arrays
from exporter.core.windows import Streamed

_SAME = 1e-9
"""Of the largest value: in float64 a difference below it is rounding."""
_EDGES = 3
"""Frames that convolutions without padding may be short of."""
_FEWEST_RUNS = 4
_MOST_RUNS = 16
_MOST_VALUES = 200_000_000
"""Values that all modules may give in all runs together, above the fewest runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookahead:
    """What one module's result reads of the future.

    Attributes:
        key: of the record; ``output:NAME`` for an output. place: the module.
        steps: of the input behind the frame's own end, at most; None: it reads to the end of
            the whole wherever it is.
    """

    key: str
    place: Location
    steps: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What was measured.

    Attributes:
        modules: in the order in which they were computed, then the outputs.
        beyond: the first seam at which an output needs more than its call is given: number of the
            call, the module where that begins, and how many steps; None: at no seam.
        positions: from which steps on the future was changed.
        unread: outputs that moved with the future, but not so that a lookahead can be told.
        why: nothing was measured, and why; "" else.
    """

    modules: tuple[Lookahead, ...] = ()
    beyond: tuple[int, Location, int | None] | None = None
    positions: tuple[int, ...] = ()
    unread: tuple[str, ...] = ()
    why: str = ""

    def of(self, output: str) -> Lookahead | None:
        """That of an output."""
        return next((item for item in self.modules if item.key == f"output:{output}"), None)

    @property
    def growing(self) -> list[Lookahead]:
        """Modules at which the lookahead is larger than at all before them.

        What is more than any output reads is another order of frames, and no lookahead.
        """
        outputs = [output for output in self.modules if output.key.startswith("output:")]
        endless = any(output.steps is None for output in outputs)
        largest = max((output.steps or 0 for output in outputs), default=0)
        grown: list[Lookahead] = []
        most = 0
        for output in self.modules:
            if output.key.startswith(("output:", "(root)")):
                continue
            if output.steps is None:
                if endless:
                    return [*grown, output]
            elif most < output.steps and (endless or output.steps <= largest):
                most = output.steps
                grown.append(output)
        return grown


def measure_reach(whole: Target, streamed: Streamed, name: str, late: Mapping[str, int]) -> Reach:
    """Run the whole with other futures, and see from where on each module differs.

    Args:
        whole: sees everything at once. name: its input along which time runs.
        outputs: that are streamed.
    """
    inputs = whole.cases[0].entire
    steps = inputs[name].shape[streamed.axis]
    try:
        base = _recorded(whole, inputs)
    except Exception as error:  # noqa: BLE001 - upstream code may insist on float32
        return Reach(why=f"it does not run in float64: {type(error).__name__}: {error}")
    # By size and not by the clock: on a busy machine less would be seen, and more would pass.
    values = sum(call.value.numel() for call in base.values())
    most = max(_FEWEST_RUNS, min(_MOST_RUNS, _MOST_VALUES // max(values, 1)))
    positions = _positions(streamed, steps, most)
    if not positions:
        return Reach(why="no step behind the first stands where another future could begin")
    first: dict[str, dict[int, tuple[int, ...]]] = {}
    for at in positions:
        try:
            other = _recorded(whole, _other_future(whole, inputs, streamed, name, at))
        except ForwardError as error:
            return Reach(why=str(error))
        for key, call in base.items():
            if key in other and (change := _first_changed(call, other[key])) is not None:
                first.setdefault(key, {})[at] = change
    modules = []
    unread = []
    rates: dict[str, tuple[int, Fraction]] = {}
    for key, call in base.items():
        read = _read(key, call, first.get(key, {}), steps, _widest(streamed))
        if read is not None:
            reading, rates[key] = read
            modules.append(reading)
        elif key.startswith("output:") and key in first:
            unread.append(key.removeprefix("output:"))
    beyond = _beyond(modules, rates, first, streamed, late)
    return Reach(
        modules=tuple(modules), beyond=beyond, positions=tuple(positions), unread=tuple(unread)
    )


def _recorded(target: Target, inputs: Arrays) -> dict[str, Call]:
    calls: dict[str, Call] = {}

    def take(call: Call) -> None:
        calls[call.key] = call

    with Recorder(target.module, take=take):
        returned = target.double(inputs)
    for name, value in returned.items():
        calls[f"output:{name}"] = Call(key=f"output:{name}", place=Location(), value=value.detach())
    return calls


def _positions(streamed: Streamed, steps: int, most: int) -> list[int]:
    """Seams, and every step of one stretch in the middle."""
    windows = streamed.windows
    seams = [window.end for window in windows if window.end < steps]
    middle = windows[len(windows) // 2]
    stretch = range(middle.start, min(max(middle.end, middle.stop) + 1, steps))
    half = max(1, most // 2)
    thinned = seams[:: max(1, -(-len(seams) // half))]
    step = max(1, -(-len(stretch) // half))
    return sorted({p for p in (*thinned, *stretch[::step]) if 0 < p < steps})


def _other_future(
    whole: Target, inputs: Arrays, streamed: Streamed, name: str, at: int
) -> dict[str, np.ndarray]:
    array = np.array(inputs[name])
    index: list[slice] = [slice(None)] * array.ndim
    index[streamed.axis] = slice(at, None)
    draw = np.random.Generator(np.random.PCG64(at))
    array[tuple(index)] = replaced(array[tuple(index)], whole.spec(name), draw, 1.0)
    return {**inputs, name: array}


def _first_changed(base: Call, other: Call) -> tuple[int, ...] | None:
    """Per axis, the first index at which anything differs; None where nothing does."""
    left, right = as_view(base.value), as_view(other.value)
    if left.shape != right.shape or not left.size:
        return None
    if left.dtype.kind in "biu":
        moved = left != right
    else:
        finite = left[np.isfinite(left)]
        scale = float(np.abs(finite).max(initial=0.0))
        with np.errstate(invalid="ignore"):
            moved = (np.abs(left - right) > _SAME * scale) | (np.isnan(left) != np.isnan(right))
    if not moved.any():
        return None
    axes = range(moved.ndim)
    return tuple(
        int(np.flatnonzero(moved.any(axis=tuple(k for k in axes if k != axis)))[0]) for axis in axes
    )


def _widest(streamed: Streamed) -> tuple[int, int]:
    """The fewest new steps of a call, and the most that one is given."""
    new = (window.stop - window.start for window in streamed.windows[:-1])
    return min(new), max(window.given for window in streamed.windows)


def _read(
    key: str,
    call: Call,
    first: Mapping[int, tuple[int, ...]],
    steps: int,
    widest: tuple[int, int],
) -> tuple[Lookahead, tuple[int, Fraction]] | None:
    """The lookahead of one record, and its axis of time with its rate; None: it has no time.

    What a module hands on (the last frames), or has in another order (copies of what is ahead, in
    front), moves otherwise than time does: nothing is said of it.
    """
    hop, given = widest
    shape = tuple(call.value.shape)
    rates = {
        k: rate for k, size in enumerate(shape) if (rate := exact_rate(size, steps)) is not None
    }
    rates = {k: rate for k, rate in rates.items() if rate * hop >= 1}
    if len(first) < 2 or not rates:
        return None
    later = [k for k in rates if len({places[k] for places in first.values()}) > 1]
    if not later:
        # Changed from its first frame on, wherever the future begins: it reads everything.
        axis = next(iter(rates))
        whole = all(places[axis] == 0 for places in first.values())
        lookahead = Lookahead(key=key, place=call.place, steps=None)
        return (lookahead, (axis, rates[axis])) if whole else None
    axis = later[0]
    rate = rates[axis] = _rate_moved(
        {at: places[axis] for at, places in first.items()}, rates[axis]
    )
    low, high = min(first), max(first)
    moved = first[high][axis] - first[low][axis]
    if abs(moved - rate * (high - low)) > rate * given + 1:
        return None
    most = max(at + 1 - Fraction(places[axis] + 1) / rate for at, places in first.items())
    return Lookahead(key=key, place=call.place, steps=max(0, int(most))), (axis, rate)


def _rate_moved(first: Mapping[int, int], rate: Fraction) -> Fraction:
    """The rate of a stride that the first frames that differ tell, where the sizes tell less.

    Of a convolution without padding that is many frames short the sizes give too low a rate, and
    with it too small a lookahead.

    Args:
        first: position -> first frame that differs. rate: what the sizes give.
    """
    inside = {at: frame for at, frame in first.items() if frame > 0}
    if len(inside) < _FEWEST_RUNS or rate >= 1 or _apart(inside, rate) < 1:
        return rate
    strides = [Fraction(1, stride) for stride in range(1, int(1 / rate) + 1)]
    straight = min(strides, key=lambda other: _apart(inside, other))
    return straight if _apart(inside, straight) < 1 else rate


def _apart(first: Mapping[int, int], rate: Fraction) -> Fraction:
    """Frames by which positions and first frames leave a straight line of this rate."""
    behind = [frame - rate * at for at, frame in first.items()]
    return max(behind) - min(behind)


def exact_rate(frames: int, steps: int) -> Fraction | None:
    """The rate of so many frames; None for a size that does not follow the steps."""
    rate = rate_between(frames, steps)
    if frames < 2 or abs(frames - rate * steps) > _EDGES * max(rate, Fraction(1)):
        return None
    return rate


def rate_between(frames: int, steps: int) -> Fraction:
    """Frames per step: a whole number, or one of a stride, where edges alone explain the rest."""
    if frames >= steps:
        return Fraction(max(1, round(frames / steps)))
    stride = max(1, round(steps / max(frames, 1)))
    simple = abs(steps / stride - frames) <= _EDGES
    return Fraction(1, stride) if simple else Fraction(frames, steps)


def _beyond(
    modules: Sequence[Lookahead],
    rates: Mapping[str, tuple[int, Fraction]],
    first: Mapping[str, Mapping[int, tuple[int, ...]]],
    streamed: Streamed,
    late: Mapping[str, int],
) -> tuple[int, Location, int | None] | None:
    """The first seam that an output reads across, and the module at which that begins."""
    outputs = [module for module in modules if module.key.startswith("output:")]
    for call, window in enumerate(streamed.windows):
        for output in outputs:
            if output.key not in rates:
                continue
            # What is behind has been waited for as long as if it had been given ahead.
            behind = late.get(output.key.removeprefix("output:"), 0) / rates[output.key][1]
            stop = window.stop - int(behind)
            if not _crosses(output.key, window.end, stop, rates, first):
                continue
            given = window.end - stop
            over = None if output.steps is None else max(1, output.steps - given)
            for module in modules:
                if _crosses(module.key, window.end, stop, rates, first):
                    return call, module.place, over
    return None


def _crosses(
    key: str,
    end: int,
    stop: int,
    rates: Mapping[str, tuple[int, Fraction]],
    first: Mapping[str, Mapping[int, tuple[int, ...]]],
) -> bool:
    """Whether a frame of the call that ends at ``stop`` reads steps from ``end`` on."""
    if key not in rates or end not in first.get(key, {}):
        return False
    axis, rate = rates[key]
    return first[key][end][axis] + 1 <= int(rate * stop)
