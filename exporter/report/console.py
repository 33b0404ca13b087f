"""What is printed on a terminal: names that are never markup, verdicts, tables, lists of lines."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.report.rows import VERDICT_STYLES
from exporter.report.safe_text import printable, shorten

_LINE = 400


def plain(text: object, style: str = "") -> Text:
    """Never markup: a name may hold square brackets."""
    return Text(printable(text), style=style)


def style_of(verdict: str) -> str:
    """The colour of a verdict; one that nobody knows looks like a failure."""
    return VERDICT_STYLES.get(verdict, "bold red")


def status(verdict: str) -> Text:
    """A verdict in its colour."""
    return plain(verdict, style_of(verdict))


def tabled(
    title: str,
    columns: Mapping[str, int],
    rows: Iterable[Sequence[object]],
    *,
    right: Container[str] = (),
    whole: Container[str] = (),
    most: int | None = None,
) -> Table | None:
    """A table of names and figures; None where there are no rows.

    Args:
        columns: heading -> how many characters a cell of it may have.
        rows: texts, None for an empty cell, or ``Text`` that is shown as it is.
        right: headings of columns of figures. whole: of those whose cells are never folded.
        most: how many rows are shown; how many more there are is said.
    """
    present = list(rows)
    if not present:
        return None
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in columns:
        side = "right" if name in right else "left"
        table.add_column(name, justify=side, overflow="fold", no_wrap=name in whole)
    for row in present[:most]:
        cells = zip(row, columns.values(), strict=False)
        table.add_row(*(_cell(value, length) for value, length in cells))
    if most is not None and len(present) > most:
        table.add_row(plain(f"... {len(present) - most:,} more in report.json", "dim"))
    return table


def _cell(value: object, length: int) -> Text:
    return value if isinstance(value, Text) else plain(shorten(value or "", length))


def print_list(
    console: Console, title: str, lines: Sequence[str], most: int, where: str = "in report.json"
) -> None:
    """A title and lines below it; nothing where there are none.

    Args:
        where: the lines are that are not shown.
    """
    if lines:
        console.print(plain(title, "bold"))
    for line in lines[:most]:
        console.print(plain(f"  {shorten(line, _LINE)}"))
    if len(lines) > most:
        console.print(plain(f"  ... {len(lines) - most:,} more {where}", "dim"))
