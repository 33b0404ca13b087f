"""What a debugging run found, on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from exporter.debugging.bundle import Bundle
from exporter.debugging.debug_layers import Debugged
from exporter.debugging.diagnose import Diagnosis
from exporter.debugging.pair import Pair
from exporter.debugging.readme import cells, outcome
from exporter.judge.layer_results import JudgedTap
from exporter.report.console import plain, style_of, tabled
from exporter.report.safe_text import path_end, size

_MOST_ROWS = 60
_NARROW, _WIDE = 100, 150
_LONG = 300


def print_debugged(
    result: Debugged,
    console: Console | None = None,
    *,
    quiet: bool = False,
    verbose: bool = False,
) -> None:
    """Print findings, and unless ``quiet`` the op tables, the matrices and the bundles."""
    console = console or Console(highlight=False)
    for diagnosis, bundle in zip(result.diagnoses, result.bundles, strict=True):
        _print_layer(console, result.pair, diagnosis, bundle, quiet, verbose)
    if not result.diagnoses:
        console.print(
            "No culprit: nothing fails by itself and nothing differs from the export. Name a layer"
            " with --layer to see it op by op.",
            style="green",
        )
    if result.waiting:
        names = ", ".join(f"'{name or 'the root module'}'" for name in result.waiting[:8])
        more = f" and {len(result.waiting) - 8} more" if len(result.waiting) > 8 else ""
        console.print(plain(f"{len(result.waiting)} more culprit(s), see --all: {names}{more}"))
    for remark in result.remarks:
        console.print(plain(f"note: {remark}", "dim"))


def debugged_json(result: Debugged) -> dict[str, Any]:
    """The findings of each layer and where its bundle lies, for programs."""
    return {
        "layers": [
            {
                "layer": diagnosis.layer.name,
                "findings": [
                    {
                        "kind": finding.kind,
                        "text": finding.text,
                        "op": finding.op,
                        "tap": finding.tap,
                        "source": finding.source,
                        "node": finding.node,
                    }
                    for finding in diagnosis.findings
                ],
                "bundle": str(bundle.folder),
            }
            for diagnosis, bundle in zip(result.diagnoses, result.bundles, strict=True)
        ],
        "waiting": list(result.waiting),
        "remarks": list(result.remarks),
    }


def _print_layer(
    console: Console, pair: Pair, diagnosis: Diagnosis, bundle: Bundle, quiet: bool, verbose: bool
) -> None:
    console.rule(
        plain(diagnosis.layer.name or "the root module", "bold"), style="dim", align="left"
    )
    if not diagnosis.findings:
        console.print(plain("nothing is wrong with this layer", "green"))
    for finding in diagnosis.findings:
        line = plain("culprit  ", "bold red")
        line.append_text(plain(finding.text))
        console.print(line)
        place = [finding.layer, finding.op, finding.source]
        console.print(plain("         " + "  ".join(item for item in place if item), "dim"))
    if quiet:
        return
    for table in (_ops(pair, diagnosis, verbose, console.width), _matrix(diagnosis)):
        if table is not None:
            console.print(table)
    for remark in diagnosis.remarks:
        console.print(plain(f"note: {remark}", "dim"))
    console.print(plain(f"bundle: {bundle.folder} ({size(bundle.bytes)})"))
    if bundle.no_torch:
        console.print(plain(f"note: no torch_layer.pt2: {bundle.no_torch}", "dim"))


def _ops(pair: Pair, diagnosis: Diagnosis, verbose: bool, width: int) -> Table | None:
    wide, narrow = width >= _WIDE, width < _NARROW
    columns = ["tap", "op", *(("onnx",) if wide else ()), "shape", "local error", "limit"]
    columns += ["verdict", *(() if narrow else ("source",))]
    rows = [row for row in diagnosis.held.rows if verbose or row.local is not None]
    shown = rows if verbose else _around_failures(rows)
    texts = []
    for row in shown:
        tap, op, onnx, shape, dtype, error, limit, verdict, wrong, source = cells(pair.actual, row)
        said = f"{verdict} ({wrong})" if wrong else verdict
        short = source if wide else path_end(source.rsplit("/", 1)[-1], 28)
        left = (tap, op, *((onnx,) if wide else ()), f"{shape} {dtype}".strip(), error, limit)
        texts.append((*left, plain(said, style_of(verdict) if verdict else "dim"), short))
    figures = ("local error", "limit")
    lengths = dict.fromkeys(columns, _LONG)
    table = tabled("op by op", lengths, texts, right=figures, whole=(*figures, "verdict"))
    if table is not None and (len(shown) < len(rows) or narrow):
        hidden = f"{len(rows) - len(shown)} more rows, " if len(shown) < len(rows) else ""
        table.caption = f"{hidden}all columns: the bundle's README.md"
    return table


def _around_failures(rows: list[JudgedTap]) -> list[JudgedTap]:
    """At most so many rows, those that fail among them."""
    if len(rows) <= _MOST_ROWS:
        return rows
    failing = [row for row in rows if row.fails_by_itself][:_MOST_ROWS]
    keep = {id(row) for row in failing}
    keep |= {id(row) for row in rows[: _MOST_ROWS - len(keep)]}
    return [row for row in rows if id(row) in keep]


def _matrix(diagnosis: Diagnosis) -> Table | None:
    columns: dict[str, int] = dict.fromkeys(("variation", "each op", "as one"), _LONG)
    rows = []
    for v in diagnosis.matrix:
        both = ((outcome(o), "red" if o.agrees is False else "") for o in (v.separate, v.together))
        rows.append((v.name, *(plain(text, style) for text, style in both)))
    return tabled("variations (who agrees with float64)", columns, rows)
