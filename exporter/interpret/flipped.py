"""Which decisions matter: those that change an integer output when they go the other way.

A frame's probability that crosses a threshold in the middle of a segment changes nothing that
anybody sees. So one decision at a time is turned round, and the rest of the program is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.graph.program import Op, Program
from exporter.interpret.margins import choice_of
from exporter.interpret.stepper import behind, forward


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tail:
    """What is computed from a decision on, itself included.

    Attributes:
        ops: names. near: of those that compute no floats and read none that the decision changes.
        ends: of those that other ops read, or that are outputs.
        given: the values in front of ``ops``. plain: what PyTorch has at ``ends`` and outputs.
    """

    ops: frozenset[str]
    near: frozenset[str]
    ends: frozenset[str]
    given: Mapping[str, Any]
    plain: Mapping[str, Any]


class Flips:
    """Decisions of a program on one case, turned round one at a time."""

    def __init__(self, program: Program, inputs: Mapping[str, np.ndarray]):
        self._program = program
        self._inputs = inputs
        self._ops = {op.name: op for op in program.ops}
        self._outputs = whole_outputs(program)
        self._needed = behind(program, self._outputs)
        self._tails: dict[str, _Tail] = {}
        self._known: dict[tuple[str, int], bool] = {}
        self.runs = 0

    def matters(self, name: str, index: int) -> bool:
        """Whether turning an element of a decision round changes an integer output.

        What cannot be run with it (a size that nothing takes) matters.
        """
        key = (name, index)
        if key not in self._known:
            if name not in self._tails:
                self._tails[name] = self._tail(name)
            try:
                self._known[key] = self._changes(self._tails[name], name, index)
            except (RuntimeError, IndexError, ValueError):
                self._known[key] = True
        return self._known[key]

    def _tail(self, name: str) -> _Tail:
        """Run the program once, and keep what the ops from a decision on read."""
        self.runs += 1
        after, near = {name}, {name}
        for op in self._program.ops:
            sources = after.intersection(op.refs())
            if op.name in self._needed and sources:
                after.add(op.name)
                if sources <= near and (op.kind == "size" or op.discrete):
                    near.add(op.name)
        read = {source for n in after for source in self._ops[n].refs()} - after
        choice = choice_of(self._ops[name], self._ops.get)
        read |= {choice.source} if choice is not None else set()
        ends = {source for n in after - near for source in self._ops[n].refs()} & near
        ends |= near.intersection(self._outputs)
        given: dict[str, Any] = {}
        plain: dict[str, Any] = {}

        def taken(op: Op, value: Any, _: Mapping[str, Any]) -> Any:
            if op.name in read:
                given[op.name] = value
            if op.name in ends or (op.name in after and op.name in self._outputs):
                plain[op.name] = value
            return value

        with torch.no_grad():
            forward(self._program, self._inputs, self._needed | {name}, taken)
        return _Tail(
            ops=frozenset(after),
            near=frozenset(near),
            ends=frozenset(ends),
            given=given,
            plain=plain,
        )

    def _changes(self, tail: _Tail, name: str, index: int) -> bool:
        near = self._run(tail, tail.near, name, index)
        if all(_same(near[n], tail.plain[n]) for n in tail.ends):
            return False  # within a segment, say: no more than marks has changed
        if tail.near == tail.ops:
            return True
        self.runs += 1
        found = self._run(tail, tail.ops, name, index)
        return any(not _same(found[n], tail.plain[n]) for n in self._outputs if n in found)

    def _run(self, tail: _Tail, ops: frozenset[str], name: str, index: int) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def taken(op: Op, value: Any, values: Mapping[str, Any]) -> Any:
            value = self._turned(op, value, values, index) if op.name == name else value
            if op.name in tail.plain:
                found[op.name] = value
            return value

        with torch.no_grad():
            forward(self._program, self._inputs, ops, taken, given=tail.given)
        return found

    def _turned(self, op: Op, value: Any, values: Mapping[str, Any], index: int) -> Any:
        turned = value.clone().contiguous()
        flat = turned.view(-1)
        choice = choice_of(op, self._ops.get)
        if choice is None:
            flat[index] = ~flat[index] if turned.dtype == torch.bool else flat[index]
            return turned
        source = values[choice.source]
        rows = source.flatten() if choice.axis is None else source.movedim(choice.axis, -1)
        rows = -rows if choice.lowest else rows
        second = torch.topk(rows, 2, dim=-1).indices[..., 1].flatten()
        flat[index] = second[index]
        return turned


def whole_outputs(program: Program) -> tuple[str, ...]:
    """Names of the outputs that are integers or booleans."""
    ops = {op.name: op for op in program.ops}
    return tuple(name for name in program.outputs if name in ops and ops[name].discrete)


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return left.shape == right.shape and bool(torch.equal(left, right))
    return left == right
