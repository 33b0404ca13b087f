"""Walk a captured program in float32 and float64 at once, op by op, with nothing else beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from exporter.graph.program import Op, Program
from exporter.graph.taps import tap_ops
from exporter.interpret.evaluate import (
    call,
    call_double,
    is_floating,
    keep_decisions,
    to_array,
    to_tensor,
)
from exporter.interpret.margins import Margin, margin_of
from exporter.interpret.run import last_uses


@dataclass(frozen=True, slots=True, kw_only=True)
class OpValues:
    """One tap of the program; valid until the next one is asked for.

    Attributes:
        reference: float32 PyTorch, free run.
        truth: float64 PyTorch, free run; integers and booleans are the reference's.
        margin: computes the float64 margins of a decision, ``None`` for other ops.
    """

    op: Op
    reference: np.ndarray
    truth: np.ndarray
    margin: Callable[[], Margin] | None


def walk_double(program: Program, inputs: Mapping[str, np.ndarray]) -> Iterator[OpValues]:
    """Yield every tap of the program (its tensors and sizes), in its order.

    Values are dropped after their last use, so that memory holds what the program itself needs.
    """
    values: dict[str, Any] = {name: to_tensor(inputs[name]) for name in program.inputs}
    values |= {name: program.tensors[key] for name, key in program.weights.items()}
    wide: dict[str, Any] = {}
    last = last_uses(program)
    taps = {op.name for op in tap_ops(program)}

    def wide_or_plain(name: str) -> Any:
        return wide[name] if name in wide else values[name]

    for index, op in enumerate(program.ops):
        with torch.no_grad():
            value = call(op, values.__getitem__)
            if is_floating(value):
                wide[op.name] = keep_decisions(call_double(op, wide_or_plain), value)
            values[op.name] = value
        if op.name in taps:
            floating = is_floating(value)
            yield OpValues(
                op=op,
                reference=to_array(value),
                truth=to_array(wide_or_plain(op.name)),
                margin=None if floating else margin_of(op, values.__getitem__, wide_or_plain),
            )
        for name in last.get(index, ()):
            values.pop(name, None)
            wide.pop(name, None)
