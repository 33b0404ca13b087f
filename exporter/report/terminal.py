"""The report on a terminal: what a person sees when a run has ended."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from exporter.report.advice import SEEDED, next_steps
from exporter.report.comparison import OWN_STATE
from exporter.report.deployments import deployment_lines
from exporter.report.figures import worst_taps
from exporter.report.kernels import finding_lines
from exporter.report.overall_verdict import verdict_line
from exporter.report.rows import VERDICT_STYLES, bar, output_rows, taps_of
from exporter.report.safe_text import (
    figure,
    path_end,
    printable,
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
        console.print(_plain(f"-> {step}"), soft_wrap=True)
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
    _tokens(report, console, most)
    _list(console, "devices", deployment_lines(report.deployments), most)
    _list(console, "findings: kernels that lose digits", finding_lines(report), most)
    _list(console, "notes", report.notes, most)
    _list(console, "not checked", report.not_checked, most)
    if verbose:
        for title, times_of in (("time", report.timings), ("where it went", report.breakdown)):
            _list(console, title, [f"{k}: {seconds(v)}" for k, v in times_of.items()], most)
    _artifacts(report, console, output_dir)


def _plain(text: object, style: str = "") -> Text:
    """Never markup: a name may hold square brackets."""
    return Text(printable(text), style=style)


def _status(verdict: str) -> Text:
    return _plain(verdict, VERDICT_STYLES.get(verdict, "bold red"))


def _box(console: Console) -> box.Box:
    return box.ASCII if console.options.ascii_only else box.ROUNDED


def _verdict(report: Report, console: Console) -> Panel:
    style = VERDICT_STYLES.get(report.verdict, "bold red")
    lines = [_plain(report.headline, "bold")]
    if report.pipeline.weights.seeded:
        lines.append(_plain(SEEDED, "bold yellow"))
    return Panel(
        Group(*lines),
        title=_plain(f" {verdict_line(report)} ", style),
        title_align="left",
        subtitle=_plain(f" {shorten(report.pipeline.name, 60)} "),
        subtitle_align="right",
        border_style=style,
        box=_box(console),
    )


def _table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _links(report: Report, console: Console) -> Table | None:
    if not report.links:
        return None
    # A link is mostly named for its two ends, which then need no column of their own.
    named = all(link.kind != OWN_STATE for link in report.links)
    wide = console.width >= _NARROW and not named
    columns = ["link", "compared", "taps", "verdict"] if wide else ["link", "taps", "verdict"]
    reasons = any(link.reason and link.verdict != "pass" for link in report.links)
    table = _table("links", *columns, *(["reason"] if reasons else []))
    for link in report.links:
        cells = [_plain(shorten(link.name, 40))]
        if wide:
            cells.append(_plain(shorten(f"{link.expected} -> {link.actual}", 80)))
        cells += [_plain(taps_of(link)), _status(link.verdict)]
        if reasons:
            cells.append(_plain("" if link.verdict == "pass" else shorten(link.reason, 200)))
        table.add_row(*cells)
    return table


def _outputs(report: Report, console: Console, verbose: bool) -> Table | None:
    rows = output_rows(report)
    if not rows:
        return None
    wide = console.width >= _NARROW
    columns = ["link", "output", "worst", "cosine", "verdict"]
    columns += ["case"] if wide else []
    table = _table("outputs", *columns, right=("worst", "cosine"))
    last = None
    for row in rows:
        cells = [
            _plain("" if row.link == last else shorten(row.link, 40)),
            _plain(shorten(row.name, 60)),
            _plain(row.difference),
            _plain(row.cosine),
            _status(row.verdict),
        ]
        table.add_row(*cells, *([_plain(shorten(row.case, 40))] if wide else []))
        if verbose and row.verdict != "pass":
            table.add_row("", _plain(row.reason, "dim"))
        last = row.link
    return table


def _worst(report: Report, console: Console, count: int) -> Table | None:
    taps = worst_taps(report, count)
    if not taps:
        return None
    wide, bars = console.width >= _WIDE, console.width >= _NARROW
    columns = ["layer", "error / limit", "times", "error"] + (["op", "source"] if wide else [])
    table = _table("worst layers (the mark is the limit)", *columns, "verdict", right=("times",))
    width = _BAR_WIDTH if bars else _BAR_WIDTH // 2
    # What the other columns take, with the gaps between them; nothing of them may be cut.
    room = max(12, console.width - (94 if wide else 56 if bars else 52))
    for column in table.columns:
        column.no_wrap = True
    for tap in taps:
        strain = tap.decisive_strain
        drawn = bar(strain, width, ascii_only=console.options.ascii_only)
        cells = [
            _plain(path_end(tap.layer or "(root)", room)),
            Text(drawn, style=VERDICT_STYLES.get(tap.verdict, "bold red")),
            _plain(times(strain)),
            _plain("added up" if tap.adds_up else "alone"),
        ]
        if wide:
            cells += [_plain(shorten(short_op(tap.op), 14)), _plain(shorten(tap.source, 18))]
        table.add_row(*cells, _status(tap.verdict))
    return table


def _contracts(report: Report) -> Table | None:
    if not report.contracts:
        return None
    table = _table("contracts", "contract", "side", "verdict", "observed", "limit", "where / why")
    for held in report.contracts:
        table.add_row(
            _plain(shorten(held.name, 40)),
            _plain(shorten(held.side, 20)),
            _status(held.verdict),
            _plain(shorten(held.observed or "", 60)),
            _plain(shorten(held.limit or "", 40)),
            _plain(shorten(": ".join(s for s in (held.where, held.reason) if s), 200)),
        )
    return table


def _golden(report: Report) -> Table | None:
    if not report.golden:
        return None
    table = _table("golden", "case", "state", "verdict", "observed", "limit", "first layer / why")
    for held in report.golden:
        why = ": ".join(s for s in (held.first_layer, held.reason) if s)
        table.add_row(
            _plain(shorten(held.case, 40)),
            _plain(shorten(held.state, 40)),
            _status(held.verdict),
            _plain(figure(held.observed) if held.observed is not None else ""),
            _plain(figure(held.limit) if held.limit is not None else ""),
            _plain(shorten(why, 200)),
        )
    return table


def _culprits(report: Report, most: int) -> Table | None:
    if not report.culprits:
        return None
    table = _table(
        f"culprits ({len(report.culprits)})", "link", "layer", "op, source", "who", "reason"
    )
    for held in report.culprits[:most]:
        table.add_row(
            _plain(shorten(held.link, 40)),
            _plain(shorten(held.layer, 80)),
            _plain(shorten(f"{held.op} {held.source}", 80)),
            _plain(shorten(held.who or "", 40)),
            _plain(shorten(held.reason, 300)),
        )
    _more(table, len(report.culprits) - most)
    return table


def _structure(report: Report, most: int) -> Table | None:
    if not report.structure:
        return None
    table = _table("structure", "what", "node", "name", "exported", "in the file")
    for held in report.structure[:most]:
        cells = (held.kind, held.node, held.name, held.expected, held.actual)
        table.add_row(*(_plain(shorten(cell, 60)) for cell in cells))
    _more(table, len(report.structure) - most)
    return table


def _more(table: Table, hidden: int) -> None:
    if hidden > 0:
        table.add_row(_plain(f"... {hidden:,} more in report.json", "dim"))


def _tokens(report: Report, console: Console, most: int) -> None:
    for case in report.cases:
        if case.text is not None:
            lines = case.text or ["(no segment)"]
            _list(console, f"tokens of '{shorten(case.name, 40)}'", lines, most)


def _list(console: Console, title: str, lines: list[str], most: int) -> None:
    if not lines:
        return
    console.print(_plain(title, "bold"))
    for line in lines[:most]:
        console.print(_plain(f"  {shorten(line, 400)}"))
    if len(lines) > most:
        console.print(_plain(f"  ... {len(lines) - most:,} more in report.json", "dim"))


def _artifacts(report: Report, console: Console, output_dir: Path | None) -> None:
    lines = []
    for held in report.artifacts:
        path = Path(held.path)
        if output_dir is not None and path.parent == Path():
            path = output_dir / path
        nodes = f", {held.nodes:,} nodes" if held.nodes is not None else ""
        lines.append(f"{path} ({size(held.bytes)}{nodes})")
    if output_dir is not None:
        names = ("report.html", "report.md", "report.json")
        lines += [str(output_dir / name) for name in names if (output_dir / name).exists()]
    if lines:
        console.print(_plain("made", "bold"))
    for line in lines:
        # A path is for copying: never folded by us.
        console.print(_plain(f"  {line}"), soft_wrap=True)
