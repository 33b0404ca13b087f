"""Padding and batch invariance: an utterance gives the same alone and among others.

    alone     | a a a a a a |      | b b b |        each at its own length
    zeros     | a a a a a a 0 0 |  | b b b 0 0 0 0 0 |
    garbage   | b b b # # # # # |  | a a a a a a # # |  in another order; further ones if thorough

Only what an utterance has alone is compared, at every layer. It may move by what float32 costs at
that layer. Garbage is large and finite: NaN would alarm on every mask that multiplies (0 * NaN).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from exporter.contracts.compare.align import readings_of
from exporter.contracts.compare.differ import Mismatch, MismatchKind, differ
from exporter.contracts.compare.noise import Noise, distance, measure_noise, noise_of
from exporter.contracts.locate.first import (
    Judge,
    first_value,
    locate,
    outputs_of,
    record,
    shared_keys,
)
from exporter.contracts.locate.recorder import Call
from exporter.contracts.padding.batches import Batch, Utterances, make_utterances
from exporter.contracts.result import (
    ONNX,
    SIDES,
    TORCH,
    Answer,
    ContractResult,
    Location,
    not_applicable,
    not_run,
)
from exporter.contracts.settings import ContractSettings, Named
from exporter.contracts.target import ForwardError, Target, as_view
from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays

NAME = "padding"
_LISTED = 12
_GAIN = 1e3
"""How much a model may make of a change of its input of 1e-12."""


class Settings(ContractSettings):
    """Options.

    Attributes:
        lengths: input -> the input that holds its lengths or mask; guessed when empty.
        input, axis: along which input and axis padding goes; guessed when not given.
        without_lengths: pad although no input says how long an utterance is; right for models
            that look back only, whose results up to the end of an utterance must not move.
        pad_longest: also pad behind the longest utterance of a batch; False for models that need
            max(lengths) == T.
    """

    lengths: dict[str, str] = Field(default_factory=dict)
    input: str | None = None
    axis: str | None = None
    pad_longest: bool = True
    without_lengths: bool = False

    def names(self) -> Iterator[Named]:
        for name, lengths in self.lengths.items():
            yield Named(keys=("lengths", name), name=name, kind="input")
            yield Named(keys=("lengths", name), name=lengths, kind="input")
        yield from super().names()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Where an utterance came out differently."""

    batch: Batch
    row: int
    output: str
    difference: Mismatch


class RowNoise:
    """What rounding explains, row by row: a quiet row may cost more than a loud one.

    The noise of the probe is good enough to pass. A row that it does not let pass is measured
    itself, in float64, before it is accused.
    """

    def __init__(self, target: Target, given: Utterances, noise: Noise):
        self._target, self._given, self.general = target, given, noise
        self._own: dict[int, Noise] = {}

    def differ(self, row: int, left: np.ndarray, right: np.ndarray, key: str) -> Mismatch | None:
        """As ``exporter.contracts.compare.differ.differ``."""
        mismatch = differ(left, right, self._own.get(row, self.general), key)
        if mismatch is None or mismatch.kind is not MismatchKind.VALUES or row in self._own:
            return mismatch
        try:
            own = measure_noise(self._target, self._given.alone[row])
        except ForwardError:
            return mismatch
        self._own[row] = own.at_least(self.general)
        return differ(left, right, self._own[row], key)


def check(target: Target, settings: Settings) -> tuple[ContractResult, ...]:
    """Check both sides."""
    if settings.lengths:
        target.lengths = settings.lengths
    axis = target.signal_axis(settings.input, settings.axis)
    if target.batch is None:
        why = "the graph has no batch axis, nothing is ever padded"
        return tuple(not_applicable(NAME, side, why) for side in SIDES)
    if axis is None or target.batch_position(axis.input) is None:
        why = "no batched input has an axis along which it could be padded"
        return tuple(not_applicable(NAME, side, why) for side in SIDES)
    options = {"pad_longest": settings.pad_longest, "without_lengths": settings.without_lengths}
    given = make_utterances(target, axis, **options)
    noise = RowNoise(target, given, Noise())
    try:
        noise = RowNoise(target, given, noise_of(target))
        results = [_torch(target, given, noise)]
    except ForwardError as error:
        results = [_refused(TORCH, given, str(error))]
    if target.onnx.problem is not None:
        results.append(not_run(NAME, ONNX, f"no ONNX file: {target.onnx.problem}"))
    else:
        try:
            results.append(_onnx(target, given, noise))
        except OnnxStoppedError as error:
            results.append(_refused(ONNX, given, str(error)))
    return tuple(results)


def _refused(side: str, given: Utterances, text: str) -> ContractResult:
    return Answer(NAME, side, {"batches": [batch.label for batch in given.batches]}).failed(
        "an error",
        "every batch runs",
        f"utterances alone or in a padded batch do not run: {text}",
        where=Location(),
        advice="accept batches padded beyond their longest utterance, or set pad_longest: false",
    )


def _torch(target: Target, given: Utterances, noise: RowNoise) -> ContractResult:
    alone = [record(target, row) for row in given.alone]
    batches = [record(target, batch.inputs) for batch in given.batches]
    single, whole = ([outputs_of(run) for run in runs] for runs in (alone, batches))
    for row, outputs in zip(given.alone, single, strict=True):
        target.keep(row, outputs)
    leak = _worst(given, single, whole, noise)
    moves = _moves(given, alone, batches, noise)
    details: dict[str, Any] = {"rows by module": _by_module(moves, alone[0])}
    place = None
    if leak:
        inputs = (given.alone[leak.row], leak.batch.inputs)
        runs = (alone[leak.row], batches[given.batches.index(leak.batch)])
        place = locate(target, inputs, runs, _judge(leak.batch, leak.row, noise))
    elif moves:
        if all(spec.discrete for spec in target.outputs):
            leak, place = moves[0]
        details["inner layer that differs"] = str(moves[0][1])
    return _result(TORCH, given, leak, place, noise, details)


def _onnx(target: Target, given: Utterances, noise: RowNoise) -> ContractResult:
    alone = [target.onnx.recall(row) for row in given.alone]
    batches = [target.onnx.run(batch.inputs) for batch in given.batches]
    leak = _worst(given, alone, batches, noise)
    place = None
    if leak:
        inputs = (given.alone[leak.row], leak.batch.inputs)
        place = first_value(target, inputs, _judge(leak.batch, leak.row, noise))
    return _result(ONNX, given, leak, place, noise, {})


def _worst(
    given: Utterances, alone: Sequence[Arrays], batches: Sequence[Arrays], noise: RowNoise
) -> Leak | None:
    """The leak that is furthest over its limit, in any output, batch and row."""
    worst: tuple[float, Leak] | None = None
    for batch, outcome in zip(given.batches, batches, strict=True):
        for place, row in enumerate(batch.order):
            for name, single in alone[row].items():
                pair = _pair(single, outcome[name], len(batch.order), place)
                if pair is None:
                    continue
                away = noise.differ(row, *pair, name)
                if (
                    away is not None
                    and not _follows(away, batch)
                    and (worst is None or away.strain > worst[0])
                ):
                    leak = Leak(batch=batch, row=row, output=name, difference=away)
                    worst = (away.strain, leak)
    return worst[1] if worst else None


@functools.lru_cache(maxsize=4096)
def _readings(*asked: Any) -> tuple[tuple[slice, ...], ...]:
    """``readings_of``; blocks of a model have the same shapes, one after the other."""
    return tuple(readings_of(*asked))


def _pair(
    single: np.ndarray, whole: np.ndarray, rows: int, place: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """What a row gives alone and in the batch, read in the way in which they are nearest."""
    read = [whole[index] for index in _readings(whole.shape, single.shape, rows, place)]
    if not read:
        return None
    best = read[0] if len(read) == 1 else min(read, key=lambda part: distance(single, part))
    return single, best


def _judge(batch: Batch, row: int, noise: RowNoise) -> Judge:
    return lambda key, values: _moved_inside(batch, row, noise, key, values) is not None


def _moved_inside(
    batch: Batch, row: int, noise: RowNoise, key: str, values: tuple[np.ndarray, ...]
) -> Mismatch | None:
    """How a layer's float result on a row moves in a batch; ``None`` where it does not."""
    single, whole = values
    if single.dtype.kind in "biu":
        return None
    pair = _pair(single, whole, len(batch.order), batch.order.index(row))
    if pair is None or not pair[0].size:
        return None
    away = noise.differ(row, *pair, key)
    return None if away is None or _follows(away, batch) else away


def _follows(away: Mismatch, batch: Batch) -> bool:
    """Whether an output moves as its input was moved: a state that is the input's own end."""
    return away.kind is MismatchKind.VALUES and away.gap <= _GAIN * batch.moved


def _moves(
    given: Utterances,
    alone: list[dict[str, Call]],
    batches: list[dict[str, Call]],
    noise: RowNoise,
) -> list[tuple[Leak, Location]]:
    """Every layer of every row that is not, in a batch, what it is alone; ``output`` is its key."""
    moves = []
    for batch, run in zip(given.batches, batches, strict=True):
        for row in batch.order:
            for key in shared_keys((alone[row], run)):
                values = (as_view(alone[row][key].value), as_view(run[key].value))
                away = _moved_inside(batch, row, noise, key, values)
                if away is not None:
                    leak = Leak(batch=batch, row=row, output=key, difference=away)
                    moves.append((leak, alone[row][key].place))
    return moves


def _by_module(moves: list[tuple[Leak, Location]], calls: dict[str, Call]) -> list[str]:
    """What other rows and padding do to each module: its worst row, in the order of the run."""
    layers = shared_keys([calls])
    worst: dict[str, tuple[Leak, Location]] = {}
    for leak, place in moves:
        before = worst.get(leak.output)
        if before is None or leak.difference.strain > before[0].difference.strain:
            worst[leak.output] = (leak, place)
    lines = []
    for key in (key for key in layers if key in worst):
        leak, place = worst[key]
        moved = leak.difference.moves("alone", "there")
        lines.append(f"{place}: utterance {leak.row} {moved} in '{leak.batch.label}'")
    more = [f"and {len(lines) - _LISTED} more modules"] * (len(lines) > _LISTED)
    kept = f"{len(layers) - len(worst)} of {len(layers)} modules give every row as it is alone"
    return [*lines[:_LISTED], *more, kept]


def _result(
    side: str,
    given: Utterances,
    leak: Leak | None,
    place: Location | None,
    noise: RowNoise,
    details: dict[str, Any],
) -> ContractResult:
    details |= {
        "utterance_lengths": list(given.sizes),
        "padded_to": given.padded,
        "batches": [batch.label for batch in given.batches],
        "noise": noise.general.why,
    }
    if given.skipped:
        details["not checked"] = list(given.skipped)
    said = Answer(NAME, side, details)
    if leak is None:
        count = f"{len(given.alone)} utterances alone and in {len(given.batches)} batches"
        return said.passed("no valid value moves beyond rounding", "float32 noise per layer", count)
    return said.failed(
        f"{leak.output} of utterance {leak.row} {leak.difference.moves('alone', 'there')}",
        leak.difference.limit_text,
        f"utterance {leak.row} ({given.sizes[leak.row]} steps) differs from itself alone in "
        f"the batch '{leak.batch.label}'",
        where=place,
        advice=leak.batch.advice,
    )
