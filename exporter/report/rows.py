"""Rows that the terminal and the Markdown report share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.parity.status import Status, severity
from exporter.report.comparison import LinkRecord, OutputRecord
from exporter.report.safe_text import cosine, figure
from exporter.report.schema import ContractRecord, Report

VERDICT_STYLES = {
    "pass": "green",
    "fail": "bold red",
    "finding": "cyan",
    "ambiguous": "yellow",
    "not run": "bold magenta",
    "not applicable": "dim",
    "empty as declared": "green",
}
_BAR_DECADES = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLine:
    """One output of one link, its worst case."""

    link: str
    name: str
    case: str
    difference: str
    cosine: str
    verdict: str
    reason: str


def output_rows(report: Report) -> list[OutputLine]:
    """The worst case of each output of each link, in the report's order."""
    worst: dict[tuple[str, str], OutputRecord] = {}
    for output in report.outputs:
        key = (output.link, output.name)
        if key not in worst or _badness(output) > _badness(worst[key]):
            worst[key] = output
    return [
        OutputLine(
            link=output.link,
            name=output.name,
            case=output.case,
            difference=_difference(output),
            cosine=cosine(output.cosine) if output.cosine is not None else "",
            verdict=output.verdict.verdict,
            reason=output.verdict.reason,
        )
        for output in worst.values()
    ]


def folded_contracts(
    records: Sequence[ContractRecord],
) -> tuple[list[ContractRecord], str]:
    """Contracts that need a row of their own, and the others in one line: each name once."""
    passing = [contract for contract in records if contract.verdict == Status.PASS.value]
    names = dict.fromkeys(contract.name for contract in passing)
    sides = {
        name: [contract.side for contract in passing if contract.name == name] for name in names
    }
    every = {contract.side for contract in records}
    said = ", ".join(
        name if set(contract) == every else f"{name} ({', '.join(contract)})"
        for name, contract in sides.items()
    )
    return [contract for contract in records if contract not in passing], said


def taps_of(link: LinkRecord) -> str:
    """``2,309 + 357 fused``, with what is missing; empty when the link has no taps."""
    if link.compared is None:
        return ""
    parts = [f"{link.compared:,}"]
    if link.fused:
        parts.append(f"{link.fused:,} fused")
    if link.missing:
        parts.append(f"{link.missing:,} MISSING")
    return " + ".join(parts)


def bar_position(strain: float | None) -> float | None:
    """Where a strain lies on a bar, 0 to 1: the limit is in the middle, two decades each side."""
    if strain is None or math.isnan(strain):
        return None
    if strain <= 0:
        return 0.0
    if math.isinf(strain):
        return 1.0
    place = (math.log10(strain) + _BAR_DECADES) / (2 * _BAR_DECADES)
    return min(1.0, max(0.0, place))


def bar(strain: float | None, width: int, *, ascii_only: bool = False) -> str:
    """A bar of ``width`` cells with the limit in the middle; ``?`` where nothing was measured."""
    place = bar_position(strain)
    if place is None:
        return "?" + " " * (width - 1)
    full, empty, mark = ("#", ".", "|") if ascii_only else ("━", "╌", "┃")
    cells = round(place * width)
    drawn = full * cells + empty * (width - cells)
    middle = width // 2
    return drawn[:middle] + mark + drawn[middle + 1 :]


def _difference(output: OutputRecord) -> str:
    if output.mismatches is not None:
        return "equal" if output.mismatches == 0 else f"{output.mismatches:,} differ"
    return figure(output.max_abs)


def _badness(output: OutputRecord) -> tuple[int, float]:
    size = output.mismatches if output.mismatches is not None else output.max_abs
    if size is not None and math.isnan(size):
        size = math.inf
    return severity(output.verdict.verdict), -1.0 if size is None else float(size)
