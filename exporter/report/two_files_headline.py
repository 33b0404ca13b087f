"""What a comparison of two files found, in one line."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.parity.exit_code import ExitDecision
from exporter.parity.status import Status
from exporter.report.two_files import AlteredRow, TwoFilesOutput, ValueRow

_OTHER = "not the same function"


def two_files_headline(
    decision: ExitDecision,
    same_graph: bool,
    first: ValueRow | None,
    changed: Sequence[AlteredRow],
    values: Sequence[ValueRow],
    outputs: Sequence[TwoFilesOutput],
    unvouched: Sequence[str] = (),
    *,
    without_partner: int = 0,
    alike_in_float64: bool = False,
) -> str:
    """One line: the same function, or where the files part.

    Args:
        unvouched: in words, the values that nothing speaks for.
        without_partner: floating values of the judged file that are compared with none.
        alike_in_float64: what fails agrees in float64: digits are lost.
    """
    if decision.status is Status.PASS:
        graph = "same graph" if same_graph else "other graph"
        shown = len({row.name for row in outputs})
        outs = "1 output" if shown == 1 else f"{shown} outputs"
        rest = f"; {without_partner} more rest on those behind them" if without_partner else ""
        return f"same function, {graph}: {len(values)} values and {outs} agree{rest}"
    if first is None and changed:
        return f"{_OTHER}: {changed[0].words}"
    if first is None:
        bad = next((row for row in outputs if row.verdict != Status.PASS.value), None)
        where = f" at output '{bad.name}' ({bad.deployment})" if bad else ""
        if bad is None and unvouched:
            where = f": {unvouched[0]}"
        return f"not shown to be the same function: {decision.status.value}{where}"
    where = f"'{first.actual}' ({first.op})"
    if first.layer:
        where = f"layer {first.layer}, {where}"
    said = next((row.words for row in changed if row.value == first.actual), "")
    what = "the same function in float64, but not in float32" if alike_in_float64 else _OTHER
    return f"{what}: first in {where}: {said or first.reason}"
