"""Mutation: a forward writes neither to its inputs nor to its own parameters and buffers.

A write is seen in four ways, because each misses something: the version counter (an idempotent
write changes no value), the content (a write through numpy counts no version), the identity of a
buffer (assigning another tensor writes to none), and a dispatch mode that names module, op and
line while the write happens. Inputs are given contiguous, in their own dtype and on the module's
own device, so that no conversion makes a copy that takes the write instead.

In ONNX nothing can be written, so a mutation is DROPPED: the first call agrees, the second does
not. The captured program says what it was (after decompositions, before which it does not know).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.config.section import Many
from exporter.contracts.mutation.onnx import CALLS, Calls, check_onnx
from exporter.contracts.mutation.write_watch import (
    FirstChange,
    Mutated,
    Write,
    WriteWatch,
    matches,
)
from exporter.contracts.probes import probe
from exporter.contracts.result import TORCH, Answer, ContractResult, Location
from exporter.contracts.settings import ContractSettings
from exporter.contracts.state import ATTRIBUTE, BUFFER, checksum, held_tensors
from exporter.contracts.target import ForwardError, Target
from exporter.core.stopwatch import RUNNING, timed
from exporter.core.tensors import Arrays

NAME = "mutation"


class Settings(ContractSettings):
    """Options.

    Attributes:
        caches: patterns of inputs and of state (``layers.*.cache_k``) that are written on purpose.
        dropped_by_export: patterns of caches whose writes the ONNX file need not have.
    """

    caches: Many[str] = ()
    dropped_by_export: Many[str] = ()


def check(target: Target, settings: Settings) -> tuple[ContractResult, ...]:
    """Check both sides."""
    inputs = probe(target)
    mutated, calls = find_mutations(target, inputs)
    allowed = settings.caches, settings.dropped_by_export
    return _verdict(mutated, settings), check_onnx(target, inputs, mutated, calls, *allowed)


def find_mutations(target: Target, inputs: Arrays) -> tuple[list[Mutated], Calls | ForwardError]:
    """Run once, list what was written to, inputs first, and call it again with the state kept.

    Returns:
        the writes, and the outputs of all calls, or why a later one stopped. There is one call
        only where no ONNX file is there to compare the later ones with.

    Raises:
        ForwardError: the first call raised.
    """
    target.snapshot  # noqa: B018 - state is saved before the first write
    more = CALLS - 1 if target.onnx.problem is None else 0  # exports, on demand, what is clean
    state = {entry.name: entry for entry in held_tensors(target.module)}
    tensors = target.tensors(inputs)
    watched = {name: entry.tensor for name, entry in state.items()} | tensors
    # By identity: an input may have the name of a buffer.
    values = [*(entry.tensor for entry in state.values()), *tensors.values()]
    before = {id(v): (v._version, checksum(v), _layout(v)) for v in values}
    watch, first = _run_watched(target, tensors, watched)
    writes = watch.writes

    def changed(name: str, value: Tensor) -> str:
        version, content, layout = before[id(value)]
        counted = value._version - watch.reshaped[name] != version
        return _how(counted, checksum(value) != content, _layout(value) != layout)

    after = {entry.name: entry for entry in held_tensors(target.module)}
    mutated = [
        Mutated(name=name, kind="input", how=how, where=_place(name, writes))
        for name, value in tensors.items()
        if (how := changed(name, value))
    ]
    for name, entry in state.items():
        now = after.get(name)
        another = now is None or now.tensor is not entry.tensor
        how = changed(name, entry.tensor)
        if another and entry.kind != ATTRIBUTE and not how:
            how = "another tensor was assigned"
        if how:
            where = _place(name, writes)
            where = where if where.module else replace(where, module=entry.module)
            mutated.append(Mutated(name=name, kind=entry.kind, how=how, where=where))
    calls = _later_calls(target, inputs, first, more)
    return _with_places(target, inputs, mutated), calls


def _layout(tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(tensor.shape), tensor.stride()


def _how(counted: bool, content: bool, layout: bool) -> str:
    if layout:
        return "its shape was changed in place: the caller's own tensor has another one now"
    if content:
        return "its content changed" + ("" if counted else " past the version counter")
    return "it was written to, with the values that it had" if counted else ""


def _later_calls(target: Target, inputs: Arrays, first: Arrays, more: int) -> Calls | ForwardError:
    """The first call's outputs and those of more calls on the state that it left; then the state
    is put back."""
    try:
        return (first, *(target.torch(inputs, keep_state=True) for _ in range(more)))
    except ForwardError as error:
        return error
    finally:
        target.snapshot.restore()


def _run_watched(
    target: Target, tensors: dict[str, Any], watched: dict[str, Any]
) -> tuple[WriteWatch, dict[str, np.ndarray]]:
    with WriteWatch(target.module, watched) as watch:
        target.forwards += 1
        try:
            with torch.no_grad(), timed(RUNNING):
                returned = target.module(*tensors.values())
        except Exception as error:
            shapes = {name: tuple(value.shape) for name, value in tensors.items()}
            target.snapshot.restore()
            raise ForwardError(error, shapes) from error
    return watch, target.arrays(returned)


def _place(name: str, writes: list[Write]) -> Location:
    return next((write.place for write in writes if write.name == name), Location())


def _with_places(target: Target, inputs: Arrays, mutated: list[Mutated]) -> list[Mutated]:
    """Writes that no op showed (numpy, ``.data``, other libraries): the module they happened in."""
    blind = [item.name for item in mutated if not item.where.op]
    if not blind:
        return mutated
    tensors = target.tensors(inputs)
    watched = {entry.name: entry.tensor for entry in held_tensors(target.module)} | tensors
    change = FirstChange(target.module, {name: watched[name] for name in blind})
    with change, torch.no_grad(), timed(RUNNING):
        target.module(*tensors.values())
    target.snapshot.restore()
    return [
        item if item.where.op else replace(item, where=change.places.get(item.name, item.where))
        for item in mutated
    ]


def _verdict(mutated: list[Mutated], settings: Settings) -> ContractResult:
    bad = [item for item in mutated if not matches(item.name, settings.caches)]
    said = Answer(NAME, TORCH)
    said.details["written"] = [asdict(item) | {"where": str(item.where)} for item in mutated]
    said.details["declared"] = list(settings.caches)
    if not bad:
        declared = f", {len(mutated)} declared caches are" if mutated else ""
        return said.passed("0 undeclared writes", "0", f"nothing is written to{declared}")
    first = bad[0]
    advice = {
        "input": f"compute on a copy of '{first.name}' (out of place, or .clone() first)",
        BUFFER: f"make '{first.name}' an input and an output, or declare it under caches",
    }.get(first.kind, f"do not write to '{first.name}' in forward")
    reason = f"{first.kind} '{first.name}': {first.how}"
    count = f"{len(bad)} undeclared write(s)"
    return said.failed(count, "0", reason, where=first.where, advice=advice)
