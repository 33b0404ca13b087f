"""What ``lower`` found, as a record, as Markdown and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from exporter.report.comparison import Record
from exporter.report.console import plain, print_list, style_of, tabled
from exporter.report.safe_text import code, markdown, path_end, seconds, size

_MOST = 12


class LayerRow(Record):
    """A layer that may be lowered.

    Attributes:
        own: rms of its own error over the rms of its value, the worst case.
        effect: relative rms error that it alone makes at the targets, predicted, the worst case.
        gained: seconds that a run is shorter with it lowered; None where that was not measured.
        stays: in float32. why: it does; "" where it is lowered.
    """

    name: str
    module: str
    kinds: list[str]
    weights: int
    own: float
    effect: float
    gained: float | None
    stays: bool
    why: str


class FileRow(Record):
    """A file: the float32 one, the one with everything lowered, the chosen one.

    Attributes:
        bytes, seconds: of the file, and of a run on the first case.
        error: relative rms error at the targets, the worst case. flips: elements of integer
            outputs that are not PyTorch's beyond float32's noise, over all cases.
        decisions: that went another way, whether an output shows it or not.
        cases: on which that was measured.
    """

    name: str
    bytes: int
    seconds: float | None
    error: float | None
    flips: int
    doubtful: int
    decisions: int
    cases: list[str]


class Point(Record):
    """A choice on the Pareto curve, predicted.

    Attributes:
        kept: layers in float32. error: as predicted. worth: share of what could be gained.
    """

    limit: float
    kept: int
    error: float
    worth: float


class LoweringReport(Record):
    """The report of ``lower``.

    Attributes:
        file: the one that is shipped. verdict, exit_code, headline: of the whole.
        layers: ranked, the worst first. files, confirmed: measured on the cases of the choice, and
            on those that had no part in it.
        curve: predicted choices at other limits. rounds: in words.
        runs: of a whole model, PyTorch's forward and backward ones included.
        yaml: the section that makes the same file again.
        judged: what ``verify`` says of the file, layer by layer.
    """

    format: int = 1
    pipeline: str
    to: str
    file: str
    verdict: str
    exit_code: int
    headline: str
    max_error: float
    max_flips: int
    prefer: str
    layers: list[LayerRow]
    files: list[FileRow]
    confirmed: FileRow
    curve: list[Point]
    rounds: list[str]
    runs: int
    seconds: float
    yaml: str
    judged: str
    notes: list[str]


def print_lowering(
    report: LoweringReport,
    console: Console | None = None,
    *,
    verbose: bool = False,
    quiet: bool = False,
) -> None:
    """Print the report; ``quiet`` prints the verdict alone."""
    console = console or Console(highlight=False)
    console.print(plain(f"{report.verdict.upper()}: {report.headline}", style_of(report.verdict)))
    if quiet:
        return
    most = 10**9 if verbose else _MOST
    columns = {"file": 24, "size": 12, "run": 12, "error": 12, "flips": 8, "cases": 60}
    rows = [file_cells(row) for row in (*report.files, report.confirmed)]
    for table in (
        tabled("files", columns, rows),
        tabled(
            "layers, the most damaging first",
            {"layer": 44, "op": 16, "own error": 10, "effect": 10, "gain": 10, "in float32": 60},
            [layer_cells(row) for row in report.layers],
            most=most,
        ),
    ):
        if table is not None:
            console.print(table)
    console.print(plain(f"layer by layer: {report.judged}"))
    print_list(console, "rounds", report.rounds, most, "with --verbose")
    print_list(console, "notes", report.notes, most, "with --verbose")
    console.print(plain("to make the same file again, put this into the pipeline:"))
    console.print(plain(report.yaml))


def render_lowering(report: LoweringReport) -> str:
    """The report as Markdown."""
    lines = [
        f"# {markdown(report.pipeline)} in {markdown(report.to)}",
        "",
        f"**{report.verdict.upper()}**: {markdown(report.headline)}",
        "",
        f"Layer by layer: {markdown(report.judged)}",
        "",
        "| file | size | run | error | flips | cases |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(file_cells(row)) for row in (*report.files, report.confirmed)]
    lines += [
        "",
        "| layer | op | own error | effect | gain | in float32 |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(layer_cells(layer)) for layer in report.layers]
    lines += ["", "| limit | in float32 | predicted error | gained |", "|---|---|---|---|"]
    lines += [
        _row((f"{point.limit:g}", str(point.kept), f"{point.error:.3g}", f"{point.worth:.0%}"))
        for point in report.curve
    ]
    lines += ["", *(f"- {markdown(line)}" for line in (*report.rounds, *report.notes))]
    return "\n".join([*lines, "", "```yaml", report.yaml, "```", f"File: {code(report.file)}", ""])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(markdown(cell) for cell in cells) + " |"


def file_cells(row: FileRow) -> tuple[str, ...]:
    """A row of the table of files: file, size, run, error, flips, cases."""
    doubt = f" (and {row.doubtful} in doubt)" if row.doubtful else ""
    return (
        row.name,
        size(row.bytes),
        "" if row.seconds is None else seconds(row.seconds),
        "" if row.error is None else f"{row.error:.3g}",
        f"{row.flips}{doubt}",
        ", ".join(row.cases),
    )


def layer_cells(row: LayerRow) -> tuple[str, ...]:
    """A row of the table of layers: layer, op, own error, effect, gain, why it stays."""
    return (
        path_end(row.name, 44),
        ", ".join(row.kinds),
        f"{row.own:.2g}",
        f"{row.effect:.2g}",
        "" if row.gained is None else f"{row.gained * 1e3:+.2f} ms",
        row.why if row.stays else "",
    )
