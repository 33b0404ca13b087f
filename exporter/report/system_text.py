"""The report of a system as Markdown, and on a terminal."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from exporter.core.files import remove, write_text
from exporter.parity.status import Status
from exporter.report.rows import VERDICT_STYLES
from exporter.report.safe_text import code, cosine, counts, figure, markdown, printable, shorten
from exporter.report.system import SystemReport
from exporter.report.system_html import system_html

SYSTEM_REPORT = "system.json"
SYSTEM_MARKDOWN = "system.md"
SYSTEM_HTML = "system.html"
_CELL = 300


def write_system_report(report: SystemReport, folder: Path) -> None:
    """Write ``system.json``, ``system.md`` and ``system.html``, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SYSTEM_REPORT, report.model_dump_json())
    write_text(folder / SYSTEM_MARKDOWN, system_markdown(report))
    write_text(folder / SYSTEM_HTML, system_html(report))


def clear_system_report(folder: Path) -> None:
    """Take away what an earlier run said."""
    for name in (SYSTEM_REPORT, SYSTEM_MARKDOWN, SYSTEM_HTML):
        remove(folder / name)


def system_markdown(report: SystemReport) -> str:
    """The report as GitHub's Markdown; every name is escaped."""
    return _page().get_template("system.md.jinja").render(report=report)


@cache
def _page() -> Environment:
    page = Environment(  # noqa: S701 - this is no HTML: every name goes through a filter
        loader=PackageLoader("exporter.report", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {
        "md": lambda value: markdown(shorten(value, _CELL)),
        "code": code,
        "figure": figure,
        "cosine": cosine,
        "shorten": shorten,
        "counts": counts,
        "block": _block,
    }
    return page


def _block(text: str) -> str:
    """Lines of an alignment, whose columns stand under each other."""
    return "\n".join(f"      {printable(line)[:_CELL]}" for line in text.splitlines()[:12])


def print_system(
    report: SystemReport, *, folder: Path, quiet: bool = False, console: Console | None = None
) -> None:
    """Print the report: standard output by default."""
    console = console or Console(highlight=False)
    style = VERDICT_STYLES.get(report.verdict, "bold red")
    head = Text(shorten(report.headline, 600), "bold")
    title = Text(f" {report.verdict.upper()} ", style)
    console.print(
        Panel(
            head,
            title=title,
            title_align="left",
            subtitle=Text(printable(report.name)),
            border_style=style,
        )
    )
    if quiet:
        return
    console.print(_graphs(report))
    _results(report, console)
    if report.manifest is not None:
        console.print(_buckets(report))
        for line in report.manifest.worst:
            console.print(Text(f"  {printable(line)}"))
    for line in report.notes:
        console.print(Text(f"note: {printable(line)}"))
    console.print(Text(f"report: {printable(folder / SYSTEM_HTML)}"))


def _graphs(report: SystemReport) -> Table:
    table = _table("graphs", "graph", "by itself", "calls", "worst call", "report")
    for graph in report.graphs:
        calls_of_graph = [calls for calls in report.calls if calls.graph == graph.name]
        strains = [
            calls.verdict.strain for calls in calls_of_graph if calls.verdict.strain is not None
        ]
        strain = f"{figure(max(strains))} of its limit" if strains else ""
        own = Text(graph.verdict, VERDICT_STYLES.get(graph.verdict, "bold red"))
        table.add_row(
            Text(printable(graph.name)),
            own,
            str(graph.calls),
            strain,
            Text(printable(graph.folder)),
        )
    return table


def _results(report: SystemReport, console: Console) -> None:
    table = _table("together", "case", "deployment", "verdict", "what came out")
    for result in report.results:
        word = result.verdict.verdict
        told = shorten(result.verdict.reason, 200)
        own = Text(word, VERDICT_STYLES.get(word, "bold red"))
        table.add_row(
            Text(printable(result.case)), Text(printable(result.deployment)), own, Text(told)
        )
    console.print(table)
    for result in report.results:
        if result.text is not None and result.verdict.verdict == Status.PASS.value:
            console.print(Text(f"{printable(result.case)}: {shorten(result.text, 300)}"))
        for errors in result.errors:
            if errors.alignment:
                console.print(
                    Text(f"{printable(result.case)}, {errors.unit} errors {errors.rate:.4g}")
                )
                for line in errors.alignment.splitlines()[:12]:
                    console.print(Text(f"    {shorten(line, 200)}"))


def _buckets(report: SystemReport) -> Table:
    table = _table(
        "manifest", "bucket", "utterances", "verdicts", "token errors", "WER PyTorch", "WER ONNX"
    )
    for bucket in report.manifest.buckets if report.manifest is not None else ():
        table.add_row(
            Text(shorten(bucket.name, 60)),
            str(bucket.utterances),
            counts(bucket.verdicts),
            f"{bucket.token_errors} of {bucket.tokens}",
            figure(bucket.word_error_rate),
            figure(bucket.onnx_word_error_rate),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
