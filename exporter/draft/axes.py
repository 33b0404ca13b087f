"""Which sizes of example inputs may vary, found by running at several sizes.

Sizes that are equal are moved together first, then each alone: what runs alone is an axis of its
own, the others are one axis. Bigger inputs are the example repeated, so that indices, masks and
lengths stay what the model takes; an input that counts another one's steps follows its size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from exporter.core.errors import UserInputError
from exporter.draft.found_axis import FoundAxis, Place

Values = Mapping[str, Tensor]
_STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 100, 128, 160, 200)
_MORE_STEPS = (240, 256, 320, 400, 480, 512, 640, 800, 1024, 1280, 1600, 1920, 2048, 4096)
_SAMPLES = 1000
"""An axis as long as this counts samples, if it counts anything known."""
_SCORES = 3
"""Axes that an input of features has: batch, time, width."""


class Mover:
    """Runs a model on its example at other sizes.

    Args:
        run: runs it on named values; raises where it does not take them.
        values: at which it runs. lengths: input -> the input and dimension that it counts.
    """

    def __init__(
        self, run: Callable[[Values], object], values: Values, lengths: Mapping[str, Place]
    ):
        self._run = run
        self.values = dict(values)
        self.lengths = lengths
        self.tried: dict[tuple[tuple[Place, int], ...], bool] = {}

    def runs(self, sizes: Mapping[Place, int]) -> bool:
        """True when the model takes its inputs at these sizes."""
        key = tuple(sorted(sizes.items()))
        if key not in self.tried:
            try:
                self._run(resized(self.values, sizes, self.lengths))
                self.tried[key] = True
            except Exception:  # noqa: BLE001 - the user's code; whatever it raises is a no
                self.tried[key] = False
        return self.tried[key]

    def step(self, places: Sequence[Place], others: Mapping[Place, int] | None = None) -> int:
        """The smallest number of which sizes may be multiples; 0 where they do not move at all."""
        size = self.values[places[0][0]].shape[places[0][1]]

        def at(wanted: int) -> bool:
            return self.runs({**(others or {}), **dict.fromkeys(places, wanted)})

        if at(size + 1):
            return 1
        if not (at(2 * size) or at(size + size // 2)):
            return 0
        known = (*_STEPS, *_MORE_STEPS)
        return next((n for n in known if 1 < n < size and size % n == 0 and at(size + n)), size)


def resized(
    values: Values, sizes: Mapping[Place, int], lengths: Mapping[str, Place]
) -> dict[str, Tensor]:
    """The values, repeated or cut to other sizes; lengths follow what they count."""
    sized: dict[str, Tensor] = {}
    for name, value in values.items():
        for (owner, at), size in sizes.items():
            if owner == name and value.shape[at]:
                value = value.index_select(at, torch.arange(size) % value.shape[at])
        sized[name] = value
    for name, (owner, at) in lengths.items():
        rows = sizes.get((owner, 0))
        if rows is not None and (name, 0) not in sizes:
            sized[name] = sized[name][torch.arange(rows) % sized[name].shape[0]]
        size = sizes.get((owner, at))
        if size is not None:
            before = values[owner].shape[at]
            full = sized[name] >= before
            shorter = (sized[name] * size // max(before, 1)).clamp(min=1)
            sized[name] = torch.where(full, size, shorter).to(sized[name].dtype)
    return sized


def lengths_of(values: Values) -> dict[str, Place]:
    """Inputs of integers that count another input's steps: one per row, the largest is full."""
    lengths: dict[str, Place] = {}
    for name, value in values.items():
        if value.is_floating_point() or value.dtype == torch.bool or value.dim() != 1:
            continue
        if not value.numel() or int(value.min()) < 1 or "len" not in name.lower():
            continue
        for owner, other in values.items():
            if owner == name or other.dim() < 2 or other.shape[0] != value.shape[0]:
                continue
            at = [n for n in range(1, other.dim()) if other.shape[n] == int(value.max())]
            if at and (name not in lengths or name.startswith(owner)):
                lengths[name] = (owner, at[0])
    return lengths


def find_axes(mover: Mover, fixed: frozenset[Place] = frozenset()) -> tuple[FoundAxis, ...]:
    """All sizes of the example that may vary, but for those that are ``fixed``."""
    _out_of_one(mover)
    groups: dict[int, list[Place]] = {}
    for name, value in mover.values.items():
        for at, size in enumerate(value.shape):
            # One length per row: it goes with the rows, also where nobody reads it.
            if size > 1 and (name, at) not in fixed and name not in mover.lengths:
                groups.setdefault(size, []).append((name, at))
    axes_found: list[tuple[tuple[Place, ...], int]] = []
    for places in groups.values():
        axes_found += _of_group(mover, places)
    order = {
        place: n
        for n, place in enumerate((n, d) for n, v in mover.values.items() for d in range(v.dim()))
    }
    axes_found.sort(key=lambda item: order[item[0][0]])
    taken: set[str] = set()
    axes: list[FoundAxis] = []
    for places, step in axes_found:
        counts = [(n, 0) for n, (owner, _) in mover.lengths.items() if (owner, 0) in places]
        axes.append(_named(mover, (*places, *counts), step, taken))
    return tuple(axes)


def given_axes(mover: Mover, given: Mapping[str, object]) -> tuple[FoundAxis, ...]:
    """Axes that the caller names, as torch.onnx.export takes them: ``{"x": {0: "batch"}}``.

    Names of outputs are passed over: their sizes follow from those of the inputs.

    Raises:
        UserInputError: an axis that its input does not have, or one name for two sizes.
    """
    _out_of_one(mover)
    places: dict[str, list[Place]] = {}
    for name, size in given.items():
        if name not in mover.values:
            continue
        named = size if isinstance(size, Mapping) else {at: f"{name}_{at}" for at in size}  # type: ignore[union-attr]
        value = mover.values[name]
        for at, label in named.items():
            if not isinstance(at, int) or not -value.dim() <= at < value.dim():
                raise UserInputError(
                    f"'{name}' has no dimension {at}; its shape is {list(value.shape)}",
                    where="dynamic_axes",
                    remedy="count dimensions from 0",
                )
            text = str(getattr(label, "__name__", label))
            places.setdefault(text, []).append((name, at % value.dim()))
    axes = []
    for label, size in places.items():
        sizes = {mover.values[name].shape[at] for name, at in size}
        if len(sizes) > 1:
            raise UserInputError(
                f"'{label}' is {' and '.join(map(str, sorted(sizes)))} in the example",
                where="dynamic_axes",
                remedy="give another name to each size that varies by itself",
            )
        step = mover.step(size) or 1
        axes.append(
            FoundAxis(
                name=label,
                places=tuple(size),
                example=sizes.pop(),
                multiple_of=step,
                why="as given",
            )
        )
    return tuple(axes)


def _out_of_one(mover: Mover) -> None:
    """Leave a batch of one: a size of 1 broadcasts, and shows nothing."""
    ones = [
        (name, 0) for name, value in mover.values.items() if value.dim() and value.shape[0] == 1
    ]
    wanted = dict.fromkeys(ones, 2)
    if ones and mover.runs(wanted):
        mover.values = resized(mover.values, wanted, mover.lengths)
        mover.tried.clear()


def _of_group(mover: Mover, places: Sequence[Place]) -> list[tuple[tuple[Place, ...], int]]:
    """The axes of places that have one size in the example."""
    together = mover.step(places)
    alone = {place: (together if len(places) == 1 else mover.step([place])) for place in places}
    groups: list[tuple[tuple[Place, ...], int]] = [
        ((place,), step) for place, step in alone.items() if step
    ]
    tied = [place for place in places if not alone[place]]
    if len(tied) > 1:
        step = together if len(tied) == len(places) else mover.step(tied)
        if step:
            return [*groups, (tuple(tied), step)]
        # Not all of them: those at one dimension, as a batch is.
        for at in dict.fromkeys(dim for _, dim in tied):
            some = [place for place in tied if place[1] == at]
            step = mover.step(some) if 1 < len(some) < len(tied) else 0
            if step:
                groups.append((tuple(some), step))
    return groups


def _named(mover: Mover, places: tuple[Place, ...], step: int, taken: set[str]) -> FoundAxis:
    name, at = places[0]
    value = mover.values[name]
    size = value.shape[at]
    label = _label(name, at, value)
    if label in taken:
        label = f"{name.replace('.', '_')}_{at}"
    taken.add(label)
    every = "" if step == 1 else f", in steps of {step}"
    where = ", ".join(f"{n}[{d}]" for n, d in places)
    bigger = size + step
    return FoundAxis(
        name=label,
        places=places,
        example=size,
        multiple_of=step,
        why=f"{where}: runs at {size} and {bigger}{every}",
    )


def _label(name: str, at: int, value: Tensor) -> str:
    """What people call this size."""
    if at == 0 and value.dim() > 1:
        return "batch"
    if at == 0:
        return f"{name.replace('.', '_')}_0"
    if value.dim() == 2:
        if not value.is_floating_point():
            return "tokens"
        return "samples" if value.shape[at] >= _SAMPLES else "steps"
    if value.dim() == _SCORES:
        return "samples" if value.shape[at] >= _SAMPLES and 1 in value.shape[1:] else "frames"
    return {2: "height", 3: "width"}.get(at, f"{name.replace('.', '_')}_{at}")
