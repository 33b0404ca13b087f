"""Chunk by chunk equals offline, for modules that take and return their state.

    offline   | x x x x x x x x x x x x x |       one call
    chunks    | x x x | x x x | x x x | ...       what each call returns goes into the next
              two rows that differ, so that a state that lands in another row shows

A chunk size that takes the whole input in one call shows nothing: the input is made longer, and
where it cannot be, the check was not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from exporter.config.section import Many
from exporter.contracts.compare.differ import Mismatch, MismatchKind, differ
from exporter.contracts.compare.noise import Noise, noise_of
from exporter.contracts.probes import probe, resize, stack_rows, take_row
from exporter.contracts.result import TORCH, Answer, ContractResult, Location, not_run
from exporter.contracts.rows import varied_rows
from exporter.contracts.settings import ContractSettings, Named, Reason
from exporter.contracts.target import ForwardError, Target, TimeAxis
from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays

NAME = "causality.streaming"
_LIMIT = "chunks equal the whole"
_ROWS = 2
_LEFT_CONTEXT = (
    "hand over every sample of left context and every recurrent state between chunks, each in its"
    " own row"
)
_AHEAD = (
    "the first chunk differs already, before any state was handed on: this output reads what comes"
    " after the chunk, or something of the whole input; give it later, or name it under"
    " not_streamed"
)
_LENGTH = (
    "give for all chunks together as many steps as for the whole: keep what a chunk leaves over for"
    " the next call, or name the output under not_streamed"
)


class Streaming(ContractSettings):
    """Options.

    Attributes:
        state: input that holds state -> output that holds it after the call.
        chunks: sizes in steps of the time axis, each tried as a constant chunk.
        at_end: input -> value in the last call of a stream, and in the whole; 0 in all others.
        not_streamed: output -> why its chunks do not add up to the whole.
        position: integer input that counts the steps of earlier chunks.
        input, axis: where time runs; guessed when not given.
    """

    state: dict[str, str]
    chunks: Many[int] = (1, 2, 3, 7)
    at_end: dict[str, int] = Field(default_factory=dict)
    not_streamed: dict[str, Reason] = Field(default_factory=dict)
    position: str | None = None
    input: str | None = None
    axis: str | None = None

    def names(self) -> Iterator[Named]:
        for name, output in self.state.items():
            yield Named(keys=("state", name), name=name, kind="input")
            yield Named(keys=("state", name), name=output, kind="output")
        for name in self.at_end:
            yield Named(keys=("at_end", name), name=name, kind="input")
        if self.position is not None:
            yield Named(keys=("position",), name=self.position, kind="input")
        yield from super().names()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunks:
    """Outputs of all calls of one stream, per output, and the state after the last."""

    parts: Mapping[str, list[np.ndarray]]
    state: Mapping[str, np.ndarray]
    calls: int


def streaming_result(target: Target, settings: Streaming, side: str) -> ContractResult:
    """Whether chunks add up to the whole, as a row of its own: another question than causality."""
    if side != TORCH and target.onnx.problem is not None:
        return not_run(NAME, side, f"no ONNX file: {target.onnx.problem}")
    try:
        return replace(check_streaming(target, settings, side), limit=_LIMIT)
    except ForwardError as error:
        return not_run(NAME, side, f"the module does not run on the probe: {error}")


def check_streaming(target: Target, settings: Streaming, side: str) -> ContractResult:
    """Run a whole input at once and in chunks, with the state handed on; compare outputs.

    Raises:
        ForwardError: the module does not run on a short probe.
    """
    figures: dict[str, str] = {}
    said = Answer(NAME, side, {"streaming": figures})
    axis = target.time_axis(settings.input, settings.axis)
    if axis is None:
        return said.not_applicable("no time axis")
    forgotten = [s.name for s in target.inputs if s.initial is not None]
    forgotten = [name for name in forgotten if name not in settings.state]
    if forgotten:
        return said.failed(
            f"{len(forgotten)} state(s) without an output",
            _LIMIT,
            f"the state '{forgotten[0]}' is not handed on",
            where=_state(forgotten[0]),
            advice=f"add it under state: {{{forgotten[0]}: the output that holds it}}",
        )
    streamed = [
        spec.name
        for spec in target.outputs
        if spec.name not in settings.not_streamed and spec.name not in settings.state.values()
    ]
    if not streamed:
        return said.not_run("no output but states is streamed, so nothing would be compared")
    run = target.torch if side == TORCH else target.onnx.run
    whole = _whole(target, settings, axis)
    noise = noise_of(target)
    calls: list[str] = []
    for size in settings.chunks:
        try:
            longer = _long_enough(target, whole, axis, size, run)
            if longer is None:
                steps = whole[axis.input].shape[axis.position]
                return said.not_run(
                    f"a chunk of {size} takes the whole input of {steps} steps, and a longer one"
                    " does not run: give a longer first case, or smaller chunks"
                )
            offline = run(longer)
            chunks = _in_chunks(target, settings, longer, axis, size, run)
        except (ForwardError, OnnxStoppedError) as error:
            why = f"a chunk does not run: {error}"
            advice = "accept chunks of this size, or name other sizes under chunks"
            return said.failed("an error", _LIMIT, why, where=_state(""), advice=advice)
        calls.append(f"{size} ({chunks.calls} calls)")
        bad = _compared(target, settings, axis, size, chunks, offline, noise, figures)
        if bad is not None:
            output, mismatch, advice = bad
            why = f"in chunks of {size}, '{output}' {mismatch.text('in chunks', 'offline')}"
            return said.failed(why, _LIMIT, why, where=_state(output), advice=advice)
        if not any(value.size for name in streamed for value in chunks.parts[name]):
            return said.not_run(f"in chunks of {size} no output holds a value")
    rows = f", {_ROWS} rows that differ" if target.batch is not None else ""
    reason = f"chunk by chunk equals offline: chunks of {', '.join(calls)}{rows}"
    return said.passed(f"{len(calls)} chunk sizes equal the whole", _LIMIT, reason)


def _state(output: str) -> Location:
    return Location(op="streaming state", value=output)


def _whole(target: Target, settings: Streaming, axis: TimeAxis) -> dict[str, np.ndarray]:
    """The probe as a stream that begins: in two rows that differ, where there is a batch."""
    whole = probe(target)
    if target.batch is not None:
        one = take_row(target, whole, 0)
        rows = varied_rows(target, one, _ROWS, axis=axis, states=False)
        whole = stack_rows(target, rows)
    return whole | _flags(whole, settings, last=True)


def _long_enough(
    target: Target,
    whole: Arrays,
    axis: TimeAxis,
    size: int,
    run: object,
) -> Arrays | None:
    """The whole, or a longer one, that takes two calls at least; ``None`` where none runs."""
    steps = whole[axis.input].shape[axis.position]
    if steps > size:
        return whole
    wanted = 2 * size + 1
    if axis.maximum is not None and wanted > axis.maximum:
        wanted = axis.maximum
    if wanted <= size:
        return None
    longer = resize(target, whole, axis, wanted)
    try:
        run(longer)  # type: ignore[operator]
    except (ForwardError, OnnxStoppedError):
        return None
    return longer


def _in_chunks(
    target: Target, settings: Streaming, whole: Arrays, axis: TimeAxis, size: int, run: object
) -> _Chunks:
    steps = whole[axis.input].shape[axis.position]
    parts: dict[str, list[np.ndarray]] = {}
    state = {name: whole[name] for name in settings.state}
    starts = range(0, steps, size)
    for start in starts:
        stop = min(start + size, steps)
        moved = {
            spec.name: np.take(
                whole[spec.name], np.arange(start, stop), axis=spec.shape.index(axis.name)
            )
            for spec in target.inputs
            if axis.name in spec.shape
        }
        flags = _flags(whole, settings, last=stop == steps)
        given = {**resize(target, whole, axis, stop - start), **moved, **state, **flags}
        if settings.position is not None:
            given[settings.position] = whole[settings.position] + start
        outputs = run(given)  # type: ignore[operator]
        state = {name: outputs[output] for name, output in settings.state.items()}
        for name, value in outputs.items():
            parts.setdefault(name, []).append(value)
    return _Chunks(parts=parts, state=state, calls=len(starts))


def _compared(
    target: Target,
    settings: Streaming,
    axis: TimeAxis,
    size: int,
    chunks: _Chunks,
    offline: Mapping[str, np.ndarray],
    noise: Noise,
    figures: dict[str, str],
) -> tuple[str, Mismatch, str] | None:
    """The first output, then the first state, that is not what the whole gives; and the advice."""
    for name, parts in chunks.parts.items():
        if name in settings.not_streamed or name in settings.state.values():
            continue
        along = _joined_along(target, axis.name, name)
        # What has no steps is what the last call says.
        joined = parts[-1] if along is None else np.concatenate(parts, axis=along)
        mismatch = _judged(name, size, joined, offline[name], noise, figures)
        if mismatch is not None:
            first = None if along is None else (along, parts[0].shape[along])
            return name, mismatch, _advice(mismatch, joined, offline[name], first)
    for name, output in settings.state.items():
        mismatch = _judged(output, size, chunks.state[name], offline[output], noise, figures)
        if mismatch is not None:
            return output, mismatch, _LEFT_CONTEXT
    return None


def _judged(
    name: str,
    size: int,
    joined: np.ndarray,
    offline: np.ndarray,
    noise: Noise,
    figures: dict[str, str],
) -> Mismatch | None:
    mismatch = differ(joined, offline, noise, name)
    key = f"{name}, chunks of {size}"
    figures[key] = (
        "equal within rounding" if mismatch is None else mismatch.text("in chunks", "offline")
    )
    return mismatch


def _advice(
    mismatch: Mismatch, joined: np.ndarray, offline: np.ndarray, first: tuple[int, int] | None
) -> str:
    """What to do, from where the difference begins: in the first chunk, or behind it.

    Args:
        first: axis of the steps, and how many of them the first chunk gave.
    """
    if first is None:
        return _LEFT_CONTEXT
    if mismatch.kind is MismatchKind.SHAPE:
        return _LENGTH
    axis, steps = first
    left, right = (np.take(value, np.arange(steps), axis=axis) for value in (joined, offline))
    if mismatch.kind is not MismatchKind.VALUES:
        return _LEFT_CONTEXT if np.array_equal(left, right) else _AHEAD
    return _AHEAD if bool((np.abs(left - right) > mismatch.limit).any()) else _LEFT_CONTEXT


def _flags(whole: Arrays, settings: Streaming, *, last: bool) -> dict[str, np.ndarray]:
    return {
        name: np.full_like(whole[name], value if last else 0)
        for name, value in settings.at_end.items()
    }


def _joined_along(target: Target, axis: str, name: str) -> int | None:
    """The axis of an output's steps; ``None`` for one that has none."""
    shape = target.spec(name).shape
    symbolic = [k for k, size in enumerate(shape) if isinstance(size, str) and size != target.batch]
    return shape.index(axis) if axis in shape else symbolic[-1] if symbolic else None
