"""Runs that ought to repeat: inputs for them, and how their outputs are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.contracts.noise import Noise, distance, scale_of
from exporter.contracts.probes import other_future, replaced, stack_rows, take_row
from exporter.contracts.result import ContractResult, Place
from exporter.contracts.subject import Subject
from exporter.parity.status import Status

NAME = "determinism"
TWICE = "two runs"
AFTER_OTHER = "after an unrelated input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One comparison that failed."""

    test: str
    output: str
    gap: float
    limit: float
    where: Place | None
    advice: str


def batch_of(subject: Subject, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A batch of three different rows."""
    axis = subject.time_axis()
    one = take_row(subject, inputs, 0)
    if axis is None:
        return inputs
    start = inputs[axis.input].shape[axis.position] // 3
    others = [other_future(subject, one, axis, start, scale=0.5, seed=k) for k in (5, 6)]
    return stack_rows(subject, [one, *others])


def turned_batch(subject: Subject, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same rows in reversed order."""
    rows = [take_row(subject, batch, k) for k in range(row_count(subject, batch))]
    return stack_rows(subject, rows[::-1])


def row_count(subject: Subject, batch: dict[str, np.ndarray]) -> int:
    """Rows of a batch; 0 without a batch axis."""
    for spec in subject.inputs:
        position = subject.batch_position(spec.name)
        if position is not None:
            return batch[spec.name].shape[position]
    return 0


def unrelated(subject: Subject, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Other values of the same shapes."""
    axis = subject.time_axis()
    if axis is not None:
        return other_future(subject, inputs, axis, 0, scale=1.0, seed=11)
    generator = np.random.Generator(np.random.PCG64(11))
    return {spec.name: replaced(inputs[spec.name], spec, generator, 1.0) for spec in subject.inputs}


def compare(
    left: dict[str, np.ndarray], right: dict[str, np.ndarray], noise: Noise, *, bitwise: bool
) -> dict[str, Any] | None:
    """The first output that differs, as fields of a ``Finding``; ``None`` when none does."""
    for name, value in left.items():
        gap = distance(value, right[name])
        limit = 0.0 if bitwise else noise.limit(name, scale_of(value, right[name]), value.size)
        if not gap <= limit:
            return {"output": name, "gap": gap, "limit": limit}
    return None


def verdict(side: str, found: Finding | None, tests: list[str], bitwise: bool) -> ContractResult:
    """One result from what the tests found."""
    limit = "bit by bit" if bitwise else "within float32 noise"
    if found is None:
        return ContractResult(
            name=NAME,
            side=side,
            status=Status.PASS,
            observed="no output moves",
            limit=limit,
            reason="; ".join(tests),
            details={"tests": tests},
        )
    return ContractResult(
        name=NAME,
        side=side,
        status=Status.FAIL,
        observed=f"'{found.output}' moves by {found.gap:.3g}",
        limit=limit if found.limit == 0.0 else f"{found.limit:.3g}",
        where=found.where,
        advice=found.advice,
        reason=f"{found.test} differ" if found.test == TWICE else f"differs: {found.test}",
        details={"tests": tests},
    )
