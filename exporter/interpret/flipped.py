"""Which decisions matter: those that change an integer output when they go the other way.

A frame's probability that crosses a threshold in the middle of a segment changes nothing that
anybody sees. So one decision at a time is turned round, and the rest of the program is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.graph.program import Op, Program
from exporter.interpret.margins import choice_of
from exporter.interpret.stepper import behind, forward


class Flips:
    """Decisions of a program on one case, turned round one at a time."""

    def __init__(self, program: Program, inputs: Mapping[str, np.ndarray]):
        self._program = program
        self._inputs = inputs
        self._ops = {op.name: op for op in program.ops}
        self._outputs = whole_outputs(program)
        self._needed = behind(program, self._outputs)
        self._plain: dict[str, Any] | None = None
        self._known: dict[tuple[str, int], bool] = {}
        self.runs = 0

    def matters(self, name: str, index: int) -> bool:
        """Whether turning an element of a decision round changes an integer output.

        What cannot be run with it (a size that nothing takes) matters.
        """
        if self._plain is None:
            self._plain = self._run(None, 0)
        key = (name, index)
        if key not in self._known:
            try:
                found = self._run(name, index)
            except (RuntimeError, IndexError, ValueError):
                self._known[key] = True
            else:
                plain = self._plain
                self._known[key] = any(not _same(found[n], plain[n]) for n in self._outputs)
        return self._known[key]

    def _run(self, name: str | None, index: int) -> dict[str, Any]:
        self.runs += 1

        def turned(op: Op, value: Any, values: Mapping[str, Any]) -> Any:
            return self._turned(op, value, values, index) if op.name == name else value

        with torch.no_grad():
            values = forward(self._program, self._inputs, self._needed, turned)
        return {n: values[n] for n in self._outputs}

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
    return tuple(
        name
        for name in program.outputs
        if name in ops and ops[name].dtype.startswith(("int", "uint", "bool"))
    )


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return left.shape == right.shape and bool(torch.equal(left, right))
    return left == right
