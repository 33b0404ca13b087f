"""Chunk by chunk equals offline, for modules that take and return their state."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from exporter.contracts.noise import distance, noise_of, scale_of
from exporter.contracts.probes import probe, resize, take_row
from exporter.contracts.result import TORCH, ContractResult, Place
from exporter.contracts.settings import ContractSettings, Many, Reason
from exporter.contracts.subject import ForwardError, Subject
from exporter.errors import OnnxStoppedError
from exporter.parity.status import Status, worst
from exporter.tensors import Arrays


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What streaming gave: status, the figure and in which output."""

    status: Status
    reason: str
    figures: Mapping[str, str]
    output: str = ""


def check_streaming(subject: Subject, settings: Streaming, side: str) -> Streamed:
    """Run a whole input at once and in chunks, with the state handed on; compare outputs."""
    axis = subject.time_axis(settings.input, settings.axis)
    if axis is None:
        return Streamed(status=Status.NOT_APPLICABLE, reason="no time axis", figures={})
    whole = probe(subject)
    if subject.batch is not None:
        whole = take_row(subject, whole, 0)
    whole |= _flags(whole, settings, last=True)
    noise = noise_of(subject)
    run = subject.torch if side == TORCH else subject.onnx.run
    steps = whole[axis.input].shape[axis.position]
    figures: dict[str, str] = {}
    try:
        offline = run(whole)
        for size in settings.chunks:
            parts: dict[str, list[np.ndarray]] = {}
            state = {name: whole[name] for name in settings.state}
            for start in range(0, steps, size):
                stop = min(start + size, steps)
                moved = {
                    spec.name: np.take(
                        whole[spec.name],
                        np.arange(start, stop),
                        axis=spec.shape.index(axis.name),
                    )
                    for spec in subject.inputs
                    if axis.name in spec.shape
                }
                flags = _flags(whole, settings, last=stop == steps)
                given = {**resize(subject, whole, axis, stop - start), **moved, **state, **flags}
                if settings.position is not None:
                    given[settings.position] = whole[settings.position] + start
                found = run(given)
                state = {name: found[output] for name, output in settings.state.items()}
                for name, value in found.items():
                    if name not in settings.state.values() and name not in settings.not_streamed:
                        parts.setdefault(name, []).append(value)
            pairs = [(n, _join(subject, axis.name, n, v), offline[n]) for n, v in parts.items()]
            pairs += [(o, state[i], offline[o]) for i, o in settings.state.items()]
            for name, left, right in pairs:
                gap = distance(left, right)
                limit = noise.limit(name, scale_of(left, right), left.size)
                figures[f"{name}, chunks of {size}"] = f"{gap:.3g} (limit {limit:.3g})"
                if not gap <= limit:
                    return Streamed(
                        status=Status.FAIL,
                        reason=f"in chunks of {size}, '{name}' differs from offline by {gap:.3g}",
                        figures=figures,
                        output=name,
                    )
    except (ForwardError, OnnxStoppedError) as error:
        return Streamed(
            status=Status.FAIL, reason=f"a chunk does not run: {error}", figures=figures
        )
    return Streamed(status=Status.PASS, reason="chunk by chunk equals offline", figures=figures)


def _flags(whole: Arrays, settings: Streaming, *, last: bool) -> dict[str, np.ndarray]:
    return {
        name: np.full_like(whole[name], value if last else 0)
        for name, value in settings.at_end.items()
    }


def _join(subject: Subject, axis: str, name: str, parts: list[np.ndarray]) -> np.ndarray:
    shape = subject.spec(name).shape
    symbolic = [
        k for k, size in enumerate(shape) if isinstance(size, str) and size != subject.batch
    ]
    position = shape.index(axis) if axis in shape else symbolic[-1] if symbolic else 0
    return np.concatenate(parts, axis=position)


def added(result: ContractResult, streamed: Streamed) -> ContractResult:
    """A causality result with the findings of streaming."""
    details = {**result.details, "streaming": dict(streamed.figures)}
    if result.status is Status.NOT_RUN:
        return result
    status = worst((result.status, streamed.status))
    if streamed.status is not Status.FAIL or result.status is Status.FAIL:
        return dataclasses.replace(result, details=details, status=status)
    return dataclasses.replace(
        result,
        status=Status.FAIL,
        reason=streamed.reason,
        observed=streamed.reason,
        limit="chunks equal the whole",
        where=Place(op="streaming state", value=streamed.output),
        advice="hand over every sample of left context and every recurrent state between chunks",
        details=details,
    )
