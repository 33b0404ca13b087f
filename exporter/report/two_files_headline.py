"""What a comparison of two files found, in one line."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.parity.exit_code import ExitDecision
from exporter.parity.status import Status
from exporter.report.two_files import AlteredRow, TwoFilesOutput, ValueRow


def two_files_headline(
    decision: ExitDecision,
    same_graph: bool,
    first: ValueRow | None,
    changed: Sequence[AlteredRow],
    values: Sequence[ValueRow],
    outputs: Sequence[TwoFilesOutput],
    unvouched: Sequence[str] = (),
) -> str:
    """One line: the same function, or where the files part.

    Args:
        unvouched: in words, the values that nothing speaks for.
    """
    if decision.status is Status.PASS:
        graph = "same graph" if same_graph else "other graph"
        shown = len({row.name for row in outputs})
        outs = "1 output" if shown == 1 else f"{shown} outputs"
        return f"same function, {graph}: {len(values)} values and {outs} agree"
    if first is None and changed:
        return f"not the same function: {changed[0].words}"
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
    if not said:
        strain = first.local_strain if first.local == Status.FAIL.value else first.propagated_strain
        said = first.reason if strain is None else f"error is {strain:.3g} times its limit"
    return f"not the same function: first in {where}: {said}"
