"""Branches and loops of a program of which no case has shown anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from exporter.graph.program import Block, Op, Program
from exporter.parity.status import Status
from exporter.report.schema import CHECK_WAYS, CheckRecord


def has_ways(program: Program) -> bool:
    """Whether a program has branches or loops."""
    return any(True for op in program.ops for _ in op.blocks())


def ways_not_taken(program: Program, taken: Collection[int]) -> list[CheckRecord]:
    """A check that was not run, for each op of which a block was never run.

    Args:
        taken: ids of the blocks that were.
    """
    records = []
    for op in _ops(program.ops):
        left = [number for number, block in enumerate(op.blocks()) if id(block) not in taken]
        if not left:
            continue
        kind = op.target.rpartition(".")[2]
        which = "has one way that" if kind == "cond" else "has a body that"
        at = f" at {op.source}" if op.source else ""
        reason = f"a {kind}{at} {which} no case takes: add a case that does"
        records.append(CheckRecord(code=CHECK_WAYS, verdict=Status.NOT_RUN.value, reason=reason))
    return records


def _ops(ops: Collection[Op]) -> Iterator[Op]:
    for op in ops:
        blocks: list[Block] = list(op.blocks())
        if blocks:
            yield op
        for block in blocks:
            yield from _ops(block.ops)
