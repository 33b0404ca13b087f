"""What a matrix says: one page with a grid that folds by axis, Markdown, JSON, JUnit."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter.core.files import write_text
from exporter.matrix.cells import Cell
from exporter.matrix.explain import Explanation, sorted_values
from exporter.matrix.run import Result
from exporter.matrix.schema import Value, text_of
from exporter.matrix.verdict import CellVerdict
from exporter.parity.status import Status, severity
from exporter.report.breaks import breakable
from exporter.report.junit import render_matrix_junit
from exporter.report.safe_text import markdown, printable

HTML, MARKDOWN, JSON, JUNIT = "matrix.html", "matrix.md", "matrix.json", "matrix.xml"
_MOST_ROWS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A part of the grid: what all of it has in common, and its parts or its table."""

    label: str
    counts: str
    folds: tuple[Fold, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = ()
    bad: bool = False


def forget_matrix(folder: Path) -> None:
    """Take away what an earlier start wrote: until this one ends there is no answer."""
    for name in (HTML, MARKDOWN, JSON, JUNIT):
        with contextlib.suppress(OSError):  # a folder that cannot be written to is told elsewhere
            (folder / name).unlink(missing_ok=True)


def write_matrix(result: Result, folder: Path) -> None:
    """Write all four, each whole or not at all."""
    texts = {
        HTML: render_html(result),
        MARKDOWN: render_markdown(result),
        JSON: render_json(result),
        JUNIT: render_matrix_junit(result.name, list(_junit_rows(result))),
    }
    for name, text in texts.items():
        write_text(folder / name, text)


def headline(result: Result) -> str:
    """One sentence: the verdict, how many cells, what explains those that fail."""
    counts = _counts(result.cells.values())
    said = f"{result.decision.status.value}: {counts}; {len(result.cells)} of {result.total} asked"
    told = [sentence(result, item) for item in result.explanations]
    return printable(". ".join([said, *told]))


def sentence(result: Result, item: Explanation) -> str:
    """Where cells fail, since when, which layer is first, and what nobody knows of it."""
    first = item.verdict.first
    layer = f", first layer {first}" if first is not None else ""
    why = "" if first is not None else f": {item.verdict.reason}"
    moves = "".join(f"; {move.text()}" for move in item.moves)
    count = f"{item.failing} cell{' fails' if item.failing == 1 else 's fail'}"
    if item.alone:
        return (
            f"{count}, {item.text(result.space)}; one of them: {item.example.label()}{layer}{why}"
        )
    unknown = ", ".join(
        f"{axis} {text_of(value)}" for axis, values in item.unknown.items() for value in values
    )
    lacks = f"; not run, so not known: {unknown}" if unknown else ""
    return f"{count}, {item.text(result.space)}{moves}{layer}{why}{lacks}"


def bits(item: Explanation) -> list[str]:
    """Along a version axis: every release, what the example says there, and how far off."""
    lines = []
    for axis, steps in item.trail.items():
        for release, verdict in steps:
            strain = "" if verdict.strain is None else f", {100 * verdict.strain:.0f} % of a limit"
            lines.append(f"{axis} {release}: {verdict.state or verdict.status.value}{strain}")
    return lines


def _counts(verdicts: Any) -> str:
    found = Counter(verdict.status for verdict in verdicts)
    order = sorted(found, key=severity, reverse=True)
    return ", ".join(f"{found[status]} {status.value}" for status in order) or "nothing"


def _junit_rows(result: Result) -> Iterator[tuple[str, str, str]]:
    for cell, verdict in result.cells.items():
        yield cell.label(), verdict.status.value, verdict.reason


def render_json(result: Result) -> str:
    """All of it, for programs."""
    return json.dumps(
        {
            "name": result.name,
            "verdict": result.decision.status.value,
            "exit_code": result.decision.exit_code,
            "axes": {axis: list(values) for axis, values in result.space.axes.items()},
            "total": result.total,
            "first": result.first,
            "cells": [
                # Not model_dump: that keeps infinity, which is no JSON; this writes it as a word.
                {"values": dict(cell.values), **json.loads(verdict.model_dump_json())}
                for cell, verdict in result.cells.items()
            ],
            "explanations": [
                {
                    "where": {axis: list(values) for axis, values in item.where.items()},
                    "text": item.text(result.space),
                    "example": dict(item.example.values),
                    "first": None
                    if item.verdict.first is None
                    else item.verdict.first.model_dump(mode="json"),
                    "moves": [
                        {"axis": move.axis, "before": move.before, "after": move.after}
                        for move in item.moves
                    ],
                    "failing": item.failing,
                    "unknown": {axis: list(values) for axis, values in item.unknown.items()},
                    "alone": [dict(cell.values) for cell in result.cells if cell in item.alone],
                }
                for item in result.explanations
            ],
        },
        indent=1,
        allow_nan=False,
    )


def render_markdown(result: Result) -> str:
    """A summary that fits a pull request."""
    lines = [f"## {markdown(result.name)}: {result.decision.status.value}", ""]
    lines += [markdown(result.description), ""] if result.description else []
    counts = _counts(result.cells.values())
    lines += [f"{len(result.cells)} of {result.total} cells were asked: {counts}.", ""]
    for item in result.explanations:
        lines += [f"- {markdown(sentence(result, item))}"]
        lines += [f"  - {markdown(line)}" for line in bits(item)]
    lines += ["", "| cell | verdict | why |", "|---|---|---|"]
    order = sorted(result.cells.items(), key=lambda pair: -severity(pair[1].status))
    for cell, verdict in order[:_MOST_ROWS]:
        why = "" if verdict.status is Status.PASS else verdict.reason
        row = (cell.label(), verdict.status.value, why)
        lines.append(f"| {' | '.join(markdown(text) for text in row)} |")
    if len(order) > _MOST_ROWS:
        lines.append(f"\n{len(order) - _MOST_ROWS} more rows are in {JSON}.")
    return "\n".join(lines) + "\n"


def render_html(result: Result) -> str:
    """One page that works offline; every cell opens its own report."""
    environment = Environment(
        loader=PackageLoader("exporter.matrix", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["breakable"] = breakable
    return environment.get_template("page.html.jinja").render(
        result=result,
        verdict=result.decision.status.value,
        counts=_counts(result.cells.values()),
        explained=[(sentence(result, item), bits(item)) for item in result.explanations],
        not_run=_not_run(result),
        folds=_folds(result),
    )


def _not_run(result: Result) -> list[tuple[str, int]]:
    found = Counter(
        verdict.reason for verdict in result.cells.values() if verdict.status is Status.NOT_RUN
    )
    return found.most_common()


def _folds(result: Result) -> tuple[Fold, ...]:
    """The grid: columns are the axis with most values, rows the one after it, the rest folds."""
    axes = result.space.axes
    wide = sorted((a for a in axes if a != "pipeline"), key=lambda a: -len(axes[a]))
    columns, rows = (wide[0] if wide else None), (wide[1] if len(wide) > 1 else None)
    rest = [axis for axis in axes if axis not in (columns, rows)]
    return _fold(result, rest, {}, columns, rows)


def _fold(
    result: Result,
    rest: list[str],
    fixed: dict[str, Value],
    columns: str | None,
    rows: str | None,
) -> tuple[Fold, ...]:
    axis, *below = rest
    found = []
    for value in result.space.axes[axis]:
        given = {**fixed, axis: value}
        inside = [
            v
            for c, v in result.cells.items()
            if all(c[name] == held for name, held in given.items())
        ]
        head, table = ((), ()) if below else _table(result, given, columns, rows)
        found.append(
            Fold(
                label=f"{axis} {text_of(value)}",
                counts=_counts(inside) if inside else "not asked",
                bad=any(verdict.status is not Status.PASS for verdict in inside),
                folds=_fold(result, below, given, columns, rows) if below else (),
                head=head,
                rows=table,
            )
        )
    return tuple(found)


def _table(
    result: Result, given: dict[str, Value], columns: str | None, rows: str | None
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...]]:
    across = _values(result, columns)
    down = _values(result, rows)
    head = tuple(f"{columns or ''} {text_of(value)}".strip() for value in across)
    table = []
    for below in down:
        line = []
        for value in across:
            values = {**given, **({columns: value} if columns else {})}
            values |= {rows: below} if rows else {}
            cell = Cell(tuple((axis, values[axis]) for axis in result.space.axes))
            line.append(_shown(result, cell))
        table.append((f"{rows or ''} {text_of(below)}".strip(), tuple(line)))
    return head, tuple(table)


def _values(result: Result, axis: str | None) -> list[Value]:
    """Values of an axis, and those that were asked for to find where something moved."""
    if axis is None:
        return [""]
    asked = itertools.chain(result.space.axes[axis], (cell[axis] for cell in result.cells))
    return sorted_values(axis, set(asked), result.space)


def _shown(result: Result, cell: Cell) -> tuple[str, str, str]:
    """Class, text and link of a cell of the grid; one that nobody asked for is never green."""
    verdict: CellVerdict | None = result.cells.get(cell)
    if verdict is None:
        exists = result.space.has(cell)
        return "none", "not asked" if exists else "does not exist", ""
    strain = "" if verdict.strain is None else f" {100 * verdict.strain:.0f} %"
    return verdict.status.value.replace(" ", "-"), f"{verdict.status.value}{strain}", verdict.page
