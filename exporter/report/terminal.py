"""The report on a terminal: what a person sees when a run has ended."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from exporter.core.extras import install
from exporter.report.advice import SEEDED, next_steps
from exporter.report.comparison import OWN_STATE
from exporter.report.console import plain, print_list, status, style_of, tabled
from exporter.report.deployments import deployment_lines
from exporter.report.figures import worst_taps
from exporter.report.html import can_render_html
from exporter.report.kernels import finding_lines
from exporter.report.latency import latency_lines
from exporter.report.overall_verdict import verdict_line
from exporter.report.rows import bar, folded_contracts, output_rows, taps_of
from exporter.report.safe_text import (
    figure,
    path_end,
    seconds,
    short_op,
    shorten,
    size,
    times,
)
from exporter.report.schema import Report

_WORST = 10
_MOST_LINES = 12
_NARROW = 90
_WIDE = 114
_BAR_WIDTH = 17


def print_report(
    report: Report,
    console: Console | None = None,
    *,
    output_dir: Path | None = None,
    verbose: bool = False,
    quiet: bool = False,
) -> None:
    """Print the report.

    Args:
        report: what to print.
        console: standard output by default; its width, colours and ``NO_COLOR`` are respected.
        output_dir: where the artifacts lie, to print their paths.
        verbose: no table is cut short, and the timings are shown.
        quiet: the verdict and what to do next alone.
    """
    console = console or Console(highlight=False)
    console.print(_verdict(report, console))
    for step in next_steps(report):
        # Commands are for copying: outside of the frame, and never folded by us.
        console.print(plain(f"-> {step}"), soft_wrap=True)
    if quiet:
        return
    most = 10**9 if verbose else _MOST_LINES
    for part in (
        _links(report, console),
        _outputs(report, console, verbose),
        _worst(report, console, 10 * _WORST if verbose else _WORST),
        _contracts(report),
        _golden(report),
        _culprits(report, most),
        _structure(report, most),
    ):
        if part is not None:
            console.print(part)
    for case in report.cases:
        if case.text is not None:
            title = f"tokens of '{shorten(case.name, 40)}'"
            print_list(console, title, case.text or ["(no segment)"], most)
    print_list(console, "devices", deployment_lines(report.deployments), most)
    print_list(console, "findings: kernels that lose digits", finding_lines(report), most)
    print_list(console, "latency", latency_lines(report), most)
    print_list(console, "notes", report.notes, most)
    print_list(console, "not checked", report.not_checked, most)
    if verbose:
        for title, times_of in (("time", report.timings), ("where it went", report.breakdown)):
            print_list(console, title, [f"{k}: {seconds(v)}" for k, v in times_of.items()], most)
    _artifacts(report, console, output_dir)


def _verdict(report: Report, console: Console) -> Panel:
    style = style_of(report.verdict)
    lines = [plain(report.headline, "bold")]
    if report.pipeline.weights.seeded:
        lines.append(plain(SEEDED, "bold yellow"))
    return Panel(
        Group(*lines),
        title=plain(f" {verdict_line(report)} ", style),
        title_align="left",
        subtitle=plain(f" {shorten(report.pipeline.name, 60)} "),
        subtitle_align="right",
        border_style=style,
        box=box.ASCII if console.options.ascii_only else box.ROUNDED,
    )


def _links(report: Report, console: Console) -> Table | None:
    # A link is mostly named for its two ends, which then need no column of their own.
    named = all(link.kind != OWN_STATE for link in report.links)
    wide = console.width >= _NARROW and not named
    reasons = any(link.reason and link.verdict != "pass" for link in report.links)
    columns = {"link": 40, "compared": 80, "taps": 60, "verdict": 20, "reason": 200}
    left_out = {"compared": not wide, "reason": not reasons}
    rows = [
        {
            "link": link.name,
            "compared": f"{link.expected} -> {link.actual}",
            "taps": taps_of(link),
            "verdict": status(link.verdict),
            "reason": "" if link.verdict == "pass" else link.reason,
        }
        for link in report.links
    ]
    shown = {name: length for name, length in columns.items() if not left_out.get(name)}
    return tabled("links", shown, [[row[name] for name in shown] for row in rows])


def _outputs(report: Report, console: Console, verbose: bool) -> Table | None:
    columns = {"link": 40, "output": 60, "worst": 40, "cosine": 40, "verdict": 20}
    if console.width >= _NARROW:
        columns["case"] = 40
    rows: list[tuple[object, ...]] = []
    last = None
    for row in output_rows(report):
        link = "" if row.link == last else row.link
        figures = (row.difference, row.cosine, status(row.verdict))
        rows.append((link, row.name, *figures, row.case))
        if verbose and row.verdict != "pass":
            rows.append(("", plain(row.reason, "dim")))
        last = row.link
    return tabled("outputs", columns, rows, right=("worst", "cosine"))


def _worst(report: Report, console: Console, count: int) -> Table | None:
    wide, bars = console.width >= _WIDE, console.width >= _NARROW
    width = _BAR_WIDTH if bars else _BAR_WIDTH // 2
    # What the other columns take, with the gaps between them; nothing of them may be cut.
    room = max(12, console.width - (94 if wide else 56 if bars else 52))
    columns = {"layer": room, "error / limit": width, "times": 20, "error": 20}
    columns |= {"op": 14, "source": 18, "verdict": 20} if wide else {"verdict": 20}
    rows = []
    for tap in worst_taps(report, count):
        strain = tap.decisive_strain
        drawn = bar(strain, width, ascii_only=console.options.ascii_only)
        error = "added up" if tap.adds_up else "alone"
        place = (short_op(tap.op), tap.source) if wide else ()
        rows.append(
            (
                path_end(tap.layer or "(root)", room),
                Text(drawn, style=style_of(tap.verdict)),
                *(times(strain), error, *place, status(tap.verdict)),
            )
        )
    title = "worst layers (the mark is the limit)"
    return tabled(title, columns, rows, right=("times",), whole=columns)


def _contracts(report: Report) -> Table | None:
    columns = {"contract": 40, "side": 20, "verdict": 20, "observed": 60, "limit": 40}
    shown, passing = folded_contracts(report.contracts)
    rows = [
        (
            *(
                contract.name,
                contract.side,
                status(contract.verdict),
                contract.observed,
                contract.limit,
            ),
            ": ".join(s for s in (contract.where, contract.reason) if s),
        )
        for contract in shown
    ]
    if passing:
        count = f"{len(report.contracts) - len(shown)} checks"
        rows.append((count, "", status("pass"), "", "", passing))
    return tabled("contracts", {**columns, "where / why": 200}, rows)


def _golden(report: Report) -> Table | None:
    columns = {"case": 40, "state": 40, "verdict": 20, "observed": 20, "limit": 20}
    rows = [
        (
            *(golden.case, golden.state, status(golden.verdict)),
            *("" if value is None else figure(value) for value in (golden.observed, golden.limit)),
            ": ".join(s for s in (golden.first_layer, golden.reason) if s),
        )
        for golden in report.golden
    ]
    return tabled("golden", {**columns, "first layer / why": 200}, rows)


def _culprits(report: Report, most: int) -> Table | None:
    columns = {"link": 40, "layer": 80, "op, source": 80, "who": 40, "reason": 300}
    rows = [
        (culprit.link, culprit.layer, f"{culprit.op} {culprit.source}", culprit.who, culprit.reason)
        for culprit in report.culprits
    ]
    return tabled(f"culprits ({len(rows)})", columns, rows, most=most)


def _structure(report: Report, most: int) -> Table | None:
    columns: dict[str, int] = dict.fromkeys(("what", "node", "name", "exported", "in the file"), 60)
    rows = [
        (difference.kind, difference.node, difference.name, difference.expected, difference.actual)
        for difference in report.structure
    ]
    return tabled("structure", columns, rows, most=most)


def _artifacts(report: Report, console: Console, output_dir: Path | None) -> None:
    lines = []
    for artifact in report.artifacts:
        path = Path(artifact.path)
        if output_dir is not None and path.parent == Path():
            path = output_dir / path
        nodes = f", {artifact.nodes:,} nodes" if artifact.nodes is not None else ""
        lines.append(f"{path} ({size(artifact.bytes)}{nodes})")
    if output_dir is not None:
        names = ("report.html", "report.md", "report.json")
        lines += [str(output_dir / name) for name in names if (output_dir / name).exists()]
        if not can_render_html():
            lines.append(f"no report.html: install it with {install('bokeh')}")
    if lines:
        console.print(plain("made", "bold"))
    for line in lines:
        # A path is for copying: never folded by us.
        console.print(plain(f"  {line}"), soft_wrap=True)
