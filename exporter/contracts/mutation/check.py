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

from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.contracts.mutation.mutated import Mutated, matches
from exporter.contracts.mutation.onnx import CALLS, Calls, check_onnx
from exporter.contracts.mutation.write_watch import FirstChange, Write, WriteWatch
from exporter.contracts.probes import probe
from exporter.contracts.result import (
    TORCH,
    ContractResult,
    Location,
)
from exporter.contracts.settings import ContractSettings, Many
from exporter.contracts.state import ATTRIBUTE, BUFFER, checksum, held_tensors
from exporter.contracts.target import ForwardError, Target, as_array, as_tensor
from exporter.core.stopwatch import RUNNING, timed
from exporter.parity.status import Status

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
    found, calls = find_mutations(target, inputs)
    torch_result = _verdict(found, settings)
    onnx_result = check_onnx(
        target, inputs, found, calls, settings.caches, settings.dropped_by_export
    )
    return torch_result, onnx_result


def find_mutations(
    target: Target, inputs: dict[str, np.ndarray]
) -> tuple[list[Mutated], Calls | ForwardError]:
    """Run once, list what was written to, inputs first, and call it again with the state kept.

    Returns:
        the writes, and the outputs of all calls, or why a later one stopped. There is one call
        only where no ONNX file is there to compare the later ones with.

    Raises:
        ForwardError: the first call raised.
    """
    target.snapshot  # noqa: B018 - state is saved before the first write
    more = CALLS - 1 if target.onnx.problem is None else 0  # exports, on demand, what is clean
    state = {held.name: held for held in held_tensors(target.module)}
    sums = {name: checksum(held.tensor) for name, held in state.items()}
    versions = {name: held.tensor._version for name, held in state.items()}
    tensors = {name: as_tensor(inputs[name]) for name in target.input_names}
    copies = {name: checksum(value) for name, value in tensors.items()}
    counted = {name: value._version for name, value in tensors.items()}
    watched = {**{n: h.tensor for n, h in state.items()}, **tensors}
    layouts = {name: _layout(value) for name, value in watched.items()}
    watch, first = _run_watched(target, tensors, watched)
    writes = watch.writes

    def written(name: str, version: int) -> bool:
        return watched[name]._version - watch.reshaped[name] != version

    after = {held.name: held for held in held_tensors(target.module)}
    found: list[Mutated] = []
    for name, value in tensors.items():
        how = _how(
            written(name, counted[name]),
            checksum(value) != copies[name],
            _layout(value) != layouts[name],
        )
        if how:
            found.append(Mutated(name=name, kind="input", how=how, where=_place(name, writes)))
    for name, held in state.items():
        now = after.get(name)
        replaced = now is None or now.tensor is not held.tensor
        how = _how(
            written(name, versions[name]),
            checksum(held.tensor) != sums[name],
            _layout(held.tensor) != layouts[name],
        )
        if replaced and held.kind != ATTRIBUTE and not how:
            how = "another tensor was assigned"
        if how:
            where = _place(name, writes)
            if not where.module:
                where = Location(
                    module=where.module or held.module, op=where.op, source=where.source
                )
            found.append(Mutated(name=name, kind=held.kind, how=how, where=where))
    calls = _later_calls(target, inputs, first, more)
    return _with_places(target, inputs, found), calls


def _layout(tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(tensor.shape), tensor.stride()


def _how(counted: bool, content: bool, layout: bool) -> str:
    if layout:
        return "its shape was changed in place: the caller's own tensor has another one now"
    if content:
        return "its content changed" + ("" if counted else " past the version counter")
    return "it was written to, with the values that it had" if counted else ""


def _later_calls(
    target: Target, inputs: dict[str, np.ndarray], first: dict[str, np.ndarray], more: int
) -> Calls | ForwardError:
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
    return watch, {name: as_array(v) for name, v in target.named(returned).items()}


def _place(name: str, writes: list[Write]) -> Location:
    return next((write.place for write in writes if write.name == name), Location())


def _with_places(
    target: Target, inputs: dict[str, np.ndarray], found: list[Mutated]
) -> list[Mutated]:
    """Writes that no op showed (numpy, ``.data``, other libraries): the module they happened in."""
    blind = [item.name for item in found if not item.where.op]
    if not blind:
        return found
    tensors = {name: as_tensor(inputs[name]) for name in target.input_names}
    watched = {held.name: held.tensor for held in held_tensors(target.module)} | tensors
    change = FirstChange(target.module, {name: watched[name] for name in blind})
    with change, torch.no_grad(), timed(RUNNING):
        target.module(*tensors.values())
    target.snapshot.restore()
    return [
        item
        if item.where.op
        else Mutated(
            name=item.name,
            kind=item.kind,
            how=item.how,
            where=change.places.get(item.name, item.where),
        )
        for item in found
    ]


def _verdict(found: list[Mutated], settings: Settings) -> ContractResult:
    bad = [item for item in found if not matches(item.name, settings.caches)]
    details = {
        "written": [
            {"name": m.name, "kind": m.kind, "how": m.how, "where": str(m.where)} for m in found
        ],
        "declared": list(settings.caches),
    }
    if not bad:
        declared = f", {len(found)} declared caches are" if found else ""
        return ContractResult(
            name=NAME,
            side=TORCH,
            status=Status.PASS,
            observed="0 undeclared writes",
            limit="0",
            reason=f"nothing is written to{declared}",
            details=details,
        )
    first = bad[0]
    advice = {
        "input": f"compute on a copy of '{first.name}' (out of place, or .clone() first)",
        BUFFER: f"make '{first.name}' an input and an output, or declare it under caches",
    }.get(first.kind, f"do not write to '{first.name}' in forward")
    return ContractResult(
        name=NAME,
        side=TORCH,
        status=Status.FAIL,
        observed=f"{len(bad)} undeclared write(s)",
        limit="0",
        where=first.where,
        advice=advice,
        reason=f"{first.kind} '{first.name}': {first.how}",
        details=details,
    )
