"""Reset: an utterance gives the same whatever was said before it, once the state is put back.

    fresh     | a a a a |
    behind    | b b b b | state put back | a a a a |      equal to fresh, bit by bit
    carried   | b b b b | state kept     | a |            differs: each state by itself is read

A state that no call reads was given the wrong name, or is handed to an input that does nothing:
chunks then agree with nothing that was trained. What comes out as state also has to be able to go
in again, and stays finite in a long stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from pydantic import Field

from exporter.contracts.calls import Run, run_calls, stream_of
from exporter.contracts.compare.noise import distance
from exporter.contracts.locate.finite import not_finite
from exporter.contracts.result import (
    ONNX,
    TORCH,
    Answer,
    ContractResult,
    Location,
    not_run,
)
from exporter.contracts.settings import ContractSettings
from exporter.contracts.target import ForwardError, Target
from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays

NAME = "reset"
_LIMIT = "equal bit by bit"
_KEEPS = "something outlives a call beside the states: hand it over as an input and an output"
_UNREAD = "join the output that holds this state with the input that takes it, under states"
_SHAPED = "a state goes out as it comes in: the same dtype, and sizes that the next call takes"


class Settings(ContractSettings):
    """Options.

    Attributes:
        long: calls of the long stream, after which everything is still finite.
    """

    long: int = Field(default=50, ge=2, le=10_000)


def check(target: Target, settings: Settings) -> tuple[ContractResult, ...]:
    """Check both sides."""
    try:
        # What the module itself keeps is what is looked for: it stays from call to call.
        kept = partial(target.torch, keep_state=True)
        results = [_checked(target, settings, TORCH, kept)]
    finally:
        target.snapshot.restore()
    if target.onnx.problem is not None:
        results.append(not_run(NAME, ONNX, f"no ONNX file: {target.onnx.problem}"))
    else:
        results.append(_checked(target, settings, ONNX, target.onnx.run))
    return tuple(results)


def _checked(target: Target, settings: Settings, side: str, run: Run) -> ContractResult:
    said = Answer(NAME, side, {"states": dict(target.states)})
    try:
        return _side(target, settings, said, run)
    except (ForwardError, OnnxStoppedError) as error:
        return said.failed(
            "an error",
            "every call runs",
            f"a call on the state that another has left does not run: {error}",
            where=Location(op="state"),
            advice=_SHAPED,
        )


def _side(target: Target, settings: Settings, said: Answer, run: Run) -> ContractResult:
    stream, other = stream_of(target), stream_of(target, seed=1)
    fresh, _ = run_calls(run, stream, target.states)
    odd = _unlike(target, stream[0], fresh[0])
    if odd is not None:
        name, what = odd
        return _failed(said, what, "as it goes in", what, name, _SHAPED)
    _, left = run_calls(run, other, target.states)
    again, _ = run_calls(run, stream, target.states)
    for call, (first, second) in enumerate(zip(fresh, again, strict=True)):
        for name, value in first.items():
            if distance(value, second[name]):
                what = f"'{name}' of call {call} differs by {distance(value, second[name]):.3g}"
                why = f"behind another utterance, with the state put back, {what}"
                return _failed(said, what, _LIMIT, why, name, _KEEPS)
    unread = [
        name for name in target.states.values() if not _is_read(run, target, stream, left, name)
    ]
    if unread:
        what = f"{len(unread)} of {len(target.states)} states are not read"
        why = f"another state in '{unread[0]}' changes no output, nor what is handed on"
        return _failed(said, what, "every state is read", why, unread[0], _UNREAD)
    bad = _long_stream(run, target, settings.long)
    if bad is not None:
        return _failed(said, bad, "finite", f"in a long stream {bad}", "", "bound what is kept")
    reason = (
        f"{len(stream)} calls behind an utterance of {len(other)} others, the state put back, equal"
        f" the same calls alone; {len(target.states)} state(s) read;"
        f" {settings.long} calls stay finite"
    )
    return said.passed("no output moves", _LIMIT, reason)


def _failed(
    said: Answer, observed: str, limit: str, why: str, name: str, advice: str
) -> ContractResult:
    return said.failed(observed, limit, why, where=Location(op="state", value=name), advice=advice)


def _unlike(target: Target, inputs: Arrays, outputs: Arrays) -> tuple[str, str] | None:
    """A state that cannot go in again as it comes out; sizes that vary may differ."""
    for output, name in target.states.items():
        before, after, spec = inputs[name], outputs.get(output), target.spec(name)
        if after is None:
            return name, f"there is no output '{output}'"
        if after.dtype != before.dtype or after.ndim != before.ndim:
            kinds = f"{before.dtype} of {before.ndim} axes", f"{after.dtype} of {after.ndim}"
            return name, f"'{name}' goes in as {kinds[0]} and comes out as {kinds[1]}"
        for declared, left, right in zip(spec.shape, before.shape, after.shape, strict=True):
            if (isinstance(declared, int) or declared == target.batch) and left != right:
                shapes = f"{list(before.shape)} and comes out as {list(after.shape)}"
                return name, f"'{name}' goes in as {shapes}"
    return None


def _is_read(
    run: Run, target: Target, stream: tuple[Arrays, ...], left: Mapping[str, np.ndarray], name: str
) -> bool:
    """Whether two calls give anything else where this one state is another stream's."""
    start = {output: stream[0][output] for output in target.states.values()}
    plain, _ = run_calls(run, stream[:2], target.states, start)
    moved, _ = run_calls(run, stream[:2], target.states, {**start, name: left[name]})
    return any(
        distance(value, other[key])
        for first, other in zip(plain, moved, strict=True)
        for key, value in first.items()
    )


def _long_stream(run: Run, target: Target, calls: int) -> str | None:
    outputs, _ = run_calls(run, stream_of(target, seed=2, calls=calls), target.states)
    for number, values in enumerate(outputs):
        bad = not_finite(values)
        if bad is not None:
            return f"after {number + 1} calls {bad}"
    return None
