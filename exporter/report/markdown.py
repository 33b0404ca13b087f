"""The report for a pull request: verdict, three tables, details folded away, below 60 kB.

``templates/report.md.jinja`` is the page; here is how it shows names and figures, and its length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter.parity.status import is_failing
from exporter.report.advice import SEEDED, next_steps
from exporter.report.deployments import deployment_lines
from exporter.report.figures import worst_taps
from exporter.report.kernels import finding_lines
from exporter.report.latency import latency_lines
from exporter.report.overall_verdict import verdict_line
from exporter.report.rows import output_rows, taps_of
from exporter.report.safe_text import code, figure, markdown, seconds, shorten, size, times
from exporter.report.schema import Report

MAX_BYTES = 60_000
_WORST = 10
_CELL = 120
# How much each table may hold; the next smaller set is tried when the text is too long.
_ROWS = (40, 20, 10, 5, 2)


def render_markdown(report: Report) -> str:
    """Return the report as GitHub's Markdown, always below 60,000 bytes.

    Long tables are cut and say how many rows are left out; every name is escaped.
    """
    for rows in _ROWS:
        for cell in (_CELL, 40):
            text = _render(report, rows, cell)
            if len(text.encode()) < MAX_BYTES:
                return text
    # Only the number of links, cases and contracts together can get here.
    return _fit(_render(report, 1, 20))


@cache
def _page(rows: int, cell: int) -> Environment:
    page = Environment(  # noqa: S701 - this is no HTML: every name goes through a filter
        loader=PackageLoader("exporter.report", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {
        "name": lambda text: code(shorten(text, cell)) if str(text) else "",
        "words": lambda text: markdown(shorten(text, 2 * cell)),
        "upto": lambda text, length: markdown(shorten(text, length)),
        "md": markdown,
        "figure": figure,
        "times": times,
        "taps": taps_of,
        "verdict": _verdict,
    }
    page.tests["text"] = lambda line: bool(line.strip())
    page.globals["row"] = lambda *cells: f"| {' | '.join(cells)} |"
    page.globals["bullets"] = lambda lines, most=rows: _bullets(lines, most)
    macros = page.get_template("macros.md.jinja").module
    page.globals |= {name: getattr(macros, name) for name in ("table", "details", "listed")}
    return page


def _render(report: Report, rows: int, cell: int) -> str:
    page = _page(rows, cell)
    tokens = [
        f"{code(shorten(case.name, cell))}: {markdown(shorten(line, 200))}"
        for case in report.cases
        for line in (case.text or [])[:rows]
    ]
    values = {
        "report": report,
        "most": rows,
        "verdict_line": verdict_line(report),
        "steps": next_steps(report),
        "seeded": SEEDED,
        "worst": worst_taps(report, _WORST),
        "outputs": output_rows(report),
        "tokens": tokens,
        "devices": deployment_lines(report.deployments),
        "latency": latency_lines(report),
        "findings": finding_lines(report),
        "environment": _environment(report, rows, page.filters),
    }
    template = page.get_template("report.md.jinja")
    context = template.new_context(values)
    parts = ("".join(block(context)).strip() for block in template.blocks.values())
    return "\n\n".join(part for part in parts if part) + "\n"


def _environment(report: Report, rows: int, shown: Mapping[str, Any]) -> list[str]:
    name, words = shown["name"], shown["words"]
    weights = report.pipeline.weights
    versions = list(report.environment.versions.items())[:rows]
    took = report.timings.get("total")
    return [
        *(
            f"{name(artifact.path)}: {size(artifact.bytes)}, sha256 {name(artifact.sha256[:16])}"
            for artifact in report.artifacts
        ),
        f"weights: {words(weights.source)}, digest {name(weights.digest[:16])}",
        f"limit: {figure(report.policy.factor)} times float32 rounding,"
        f" {words(report.policy.precision)}, {len(report.policy.overrides)} overrides",
        ", ".join(f"{words(key)} {words(value)}" for key, value in versions),
        f"Python {words(report.environment.python)}, {words(report.environment.platform)},"
        f" {report.environment.threads} threads, {words(', '.join(report.environment.providers))}",
        f"export-verify {words(report.tool_version)}"
        + (f", {seconds(took)} in all" if took is not None else ""),
    ]


def _verdict(verdict: str) -> str:
    return f"**{markdown(verdict)}**" if is_failing(verdict) else markdown(verdict)


def _bullets(lines: Sequence[str], rows: int) -> str:
    shown = [f"- {line}" for line in lines[:rows] if line]
    if len(lines) > rows:
        shown.append(f"- ... and {len(lines) - rows:,} more in `report.json`")
    return "\n".join(shown)


def _fit(text: str) -> str:
    """Cut at a line, close what is folded, say so: the last resort."""
    tail = "\n\n</details>\n\n... cut here; all of it is in `report.json`\n"
    room = MAX_BYTES - len(tail.encode()) - 1
    cut = text.encode()[:room].decode(errors="ignore")
    return cut[: cut.rfind("\n")] + tail
