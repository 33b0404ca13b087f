"""What a comparison of two ONNX files found, as a record, as JSON and as lines for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from exporter.parity.status import GOOD, needs_a_word
from exporter.report.comparison import Record
from exporter.report.console import plain, print_list, status, style_of, tabled
from exporter.report.safe_text import path_end, times

_MOST = 12


class ValueRow(Record):
    """One value of both files, its worst case.

    Attributes:
        expected, actual: its names. layer: module, where a file says it. op: in ``actual``.
        how, proof: as in ``exporter.joining``. distance: of both in float64.
        local, propagated: verdicts, alone and in a free run; ``local_strain`` and
            ``propagated_strain``: error over limit. ``local`` is None where both files have the
            same nodes from the nearest joined values on: nothing is measured there.
    """

    expected: str
    actual: str
    layer: str
    op: str
    how: str
    proof: str
    distance: float | None
    local: str | None
    propagated: str
    local_strain: float | None
    propagated_strain: float | None
    verdict: str
    reason: str = ""
    case: str = ""


class TwoFilesOutput(Record):
    """One output of the files as they are deployed, its worst case."""

    name: str
    deployment: str
    verdict: str
    strain: float | None
    reason: str
    case: str


class AlteredRow(Record):
    """A weight or attribute that differs where both files have the same operator."""

    value: str
    layer: str
    words: str
    fails: bool


class TwoFiles(Record):
    """The report of ``compare``.

    Attributes:
        truth: the file that is held to be right, in float64. other: the file under test.
        verdict, exit_code, headline: of the whole.
        joined: values of the other file by how they were joined. candidates: its floating values
            that depend on the inputs; ambiguous, alone: those that agree with several, with none.
        first: the first value that is wrong by itself, or that has an altered weight.
        rewritten: in words, what the other file writes in another way.
    """

    format: int = 1
    truth: str
    other: str
    verdict: str
    exit_code: int
    headline: str
    same_graph: bool
    joined: dict[str, int]
    candidates: int
    ambiguous: list[str]
    alone: list[str]
    values: list[ValueRow]
    outputs: list[TwoFilesOutput]
    altered: list[AlteredRow]
    rewritten: list[str]
    first: ValueRow | None
    cases: list[str]
    deployments: list[str]
    notes: list[str]
    not_checked: list[str]


def print_two_files(
    report: TwoFiles, console: Console | None = None, *, verbose: bool = False, quiet: bool = False
) -> None:
    """Print the report; ``quiet`` prints the verdict alone."""
    console = console or Console(highlight=False)
    said = f"{report.verdict.upper()}: {report.headline}"
    console.print(plain(said, style_of(report.verdict)))
    if quiet:
        return
    most = 10**9 if verbose else _MOST
    console.print(plain(f"{report.truth} in float64 is the truth, {report.other} is judged"))
    console.print(plain(joined_line(report)))
    for part in (_outputs(report, most), _values(report, most)):
        if part is not None:
            console.print(part)
    for title, lines in (
        ("altered", [f"{row.layer or row.value}: {row.words}" for row in report.altered]),
        ("written in another way", report.rewritten),
        ("notes", report.notes),
        ("not checked", report.not_checked),
    ):
        print_list(console, title, lines, most, "with --verbose or --format json")


def joined_line(report: TwoFiles) -> str:
    """``81 of 84 floating values joined (76 name, 5 structure); 1 agrees with several``."""
    lost = len(report.ambiguous) + len(report.alone)
    how = ", ".join(f"{count} by {name}" for name, count in report.joined.items())
    line = f"{report.candidates - lost} of {report.candidates} floating values are joined"
    if how:
        line += f" (all joins: {how})"
    if report.ambiguous:
        line += f"; {len(report.ambiguous)} agree with several values and are not compared"
    return line


def _outputs(report: TwoFiles, most: int) -> Table | None:
    columns = {"output": 40, "deployment": 40, "error / limit": 20, "verdict": 20, "why": 120}
    rows = [
        (
            *(row.name, row.deployment, times(row.strain), status(row.verdict)),
            row.reason if needs_a_word(row.verdict) else "",
        )
        for row in report.outputs[:most]
    ]
    return tabled("outputs, as deployed", columns, rows)


def _values(report: TwoFiles, most: int) -> Table | None:
    ranked = sorted(
        report.values, key=lambda row: max(row.local_strain or 0.0, row.propagated_strain or 0.0)
    )[::-1]
    wrong = [row for row in ranked if row.local is not None and row.local not in GOOD]
    title = "values that are wrong by themselves" if wrong else "values, the worst first"
    columns = {"layer": 24, "value": 20, "op": 80, "alone": 20, "free run": 20}
    rows = [
        (
            *(path_end(row.layer or "(unknown)", 24), path_end(row.actual, 20), row.op),
            "same nodes" if row.local is None else times(row.local_strain),
            times(row.propagated_strain),
            row.how if row.proof == "value" else f"{row.how}, {row.proof}",
            status(row.verdict),
        )
        for row in (wrong or ranked)[:most]
    ]
    return tabled(title, {**columns, "joined by": 80, "verdict": 20}, rows)
