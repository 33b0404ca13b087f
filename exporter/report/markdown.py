"""The report for a pull request: verdict, three tables, details folded away, below 60 kB."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from exporter.parity.status import is_failing
from exporter.report.advice import SEEDED, next_steps
from exporter.report.deployments import deployment_lines
from exporter.report.figures import worst_taps
from exporter.report.kernels import finding_lines
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


def _render(report: Report, rows: int, cell: int) -> str:
    def name(text: object) -> str:
        return code(shorten(text, cell)) if str(text) else ""

    def words(text: object) -> str:
        return markdown(shorten(text, 2 * cell))

    parts = [
        f"## {words(verdict_line(report))}: {name(report.pipeline.name)}",
        f"**{markdown(shorten(report.headline, 600))}**",
        # Commands to paste: with the paths of a deep folder in them they are long, and useless cut.
        _bullets([markdown(shorten(step, 2400)) for step in next_steps(report)], rows),
    ]
    if report.pipeline.weights.seeded:
        parts.append(f"> **{markdown(SEEDED)}**")
    parts += [
        _stopped(report, name),
        _links(report, rows, name, words),
        _layers(report, name),
        _contracts(report, rows, name, words),
        _golden(report, rows, name, words),
        _details("Culprits", len(report.culprits), _culprits(report, rows, name, words)),
        _details("Structure", len(report.structure), _structure(report, rows, name)),
        _details("Outputs", len(report.outputs), _outputs(report, rows, name, words)),
        _details("Tokens", *_tokens(report, rows, cell)),
        _details("Not checked", *_lines(report.not_checked, rows, words)),
        _details("Devices", *_lines(deployment_lines(report.deployments), rows, words)),
        _details("Findings", *_lines(finding_lines(report), rows, words)),
        _details("Notes", *_lines(report.notes, rows, words)),
        _details("Artifacts and environment", 1, _environment(report, rows, name, words)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_Show = Callable[[object], str]


def _stopped(report: Report, name: _Show) -> str:
    held = report.stopped
    if held is None:
        return ""
    lines = [markdown(shorten(line, 600)) for line in held.detail.splitlines() if line.strip()]
    where = f" at {name(held.where)}" if held.where else ""
    return "\n\n".join(
        [
            f"### Stage {name(held.stage)} stopped{where}",
            _bullets(lines, 10),
            f"Had done their work before it: {markdown(', '.join(held.finished) or 'none')}.",
        ]
    )


def _links(report: Report, rows: int, name: _Show, words: _Show) -> str:
    return _table(
        "Links",
        ("link", "compared", "taps", "verdict", "reason"),
        [
            (
                name(link.name),
                words(f"{link.expected} → {link.actual}"),
                words(taps_of(link)),
                _verdict(link.verdict),
                words("" if link.verdict == "pass" else link.reason),
            )
            for link in report.links[:rows]
        ],
        len(report.links),
    )


def _layers(report: Report, name: _Show) -> str:
    taps = worst_taps(report, _WORST)
    return _table(
        "Worst layers",
        ("layer", "op", "source", "error", "error / limit", "verdict"),
        [
            (
                name(tap.layer or "(root)"),
                name(tap.op),
                name(tap.source),
                markdown(
                    f"{figure(tap.propagated)} added up"
                    if tap.adds_up
                    else f"{figure(tap.local)} alone"
                ),
                markdown(times(tap.decisive_strain)),
                _verdict(tap.verdict),
            )
            for tap in taps
        ],
        len(taps),
    )


def _contracts(report: Report, rows: int, name: _Show, words: _Show) -> str:
    return _table(
        "Contracts",
        ("contract", "side", "verdict", "observed", "limit", "where, why"),
        [
            (
                name(held.name),
                words(held.side),
                _verdict(held.verdict),
                words(held.observed or ""),
                words(held.limit or ""),
                words(": ".join(s for s in (held.where, held.reason, held.advice) if s)),
            )
            for held in report.contracts[:rows]
        ],
        len(report.contracts),
    )


def _golden(report: Report, rows: int, name: _Show, words: _Show) -> str:
    return _table(
        "Golden",
        ("case", "state", "verdict", "first layer", "observed", "limit", "why"),
        [
            (
                name(held.case),
                words(held.state),
                _verdict(held.verdict),
                name(held.first_layer or ""),
                words("" if held.observed is None else figure(held.observed)),
                words("" if held.limit is None else figure(held.limit)),
                words(held.reason),
            )
            for held in report.golden[:rows]
        ],
        len(report.golden),
    )


def _culprits(report: Report, rows: int, name: _Show, words: _Show) -> str:
    return _table(
        "",
        ("link", "layer", "op", "source", "who", "local error", "limit", "reason"),
        [
            (
                name(held.link),
                name(held.layer),
                name(held.op),
                name(held.source),
                words(held.who or ""),
                markdown(figure(held.local_error)),
                markdown(figure(held.limit)),
                words(held.reason),
            )
            for held in report.culprits[:rows]
        ],
        len(report.culprits),
    )


def _structure(report: Report, rows: int, name: _Show) -> str:
    return _table(
        "",
        ("what", "node", "name", "exported", "in the file"),
        [
            tuple(name(s) for s in (held.kind, held.node, held.name, held.expected, held.actual))
            for held in report.structure[:rows]
        ],
        len(report.structure),
    )


def _outputs(report: Report, rows: int, name: _Show, words: _Show) -> str:
    held = output_rows(report)
    return _table(
        "",
        ("link", "output", "worst difference", "cosine", "verdict", "case"),
        [
            (
                name(row.link),
                name(row.name),
                words(row.difference),
                words(row.cosine),
                _verdict(row.verdict),
                name(row.case),
            )
            for row in held[: 2 * rows]
        ],
        len(held),
    )


def _tokens(report: Report, rows: int, cell: int) -> tuple[int, str]:
    lines = [
        f"{code(shorten(case.name, cell))}: {markdown(shorten(line, 200))}"
        for case in report.cases
        for line in (case.text or [])[:rows]
    ]
    return len(lines), _bullets(lines, rows)


def _lines(lines: Sequence[str], rows: int, words: _Show) -> tuple[int, str]:
    return len(lines), _bullets([words(line) for line in lines], rows)


def _environment(report: Report, rows: int, name: _Show, words: _Show) -> str:
    weights = report.pipeline.weights
    versions = report.environment.versions
    took = report.timings.get("total")
    lines = [
        *(
            f"{name(held.path)}: {size(held.bytes)}, sha256 {name(held.sha256[:16])}"
            for held in report.artifacts
        ),
        f"weights: {words(weights.source)}, digest {name(weights.digest[:16])}",
        f"limit: {figure(report.policy.factor)} times float32 rounding,"
        f" {words(report.policy.precision)}, {len(report.policy.overrides)} overrides",
        ", ".join(f"{words(key)} {words(value)}" for key, value in list(versions.items())[:rows]),
        f"Python {words(report.environment.python)}, {words(report.environment.platform)},"
        f" {report.environment.threads} threads,"
        f" {words(', '.join(report.environment.providers))}",
        f"export-verify {words(report.tool_version)}"
        + (f", {seconds(took)} in all" if took is not None else ""),
    ]
    return _bullets(lines, rows)


def _verdict(verdict: str) -> str:
    return f"**{markdown(verdict)}**" if is_failing(verdict) else markdown(verdict)


def _table(title: str, head: Sequence[str], body: Iterable[Sequence[str]], total: int) -> str:
    lines = [f"| {' | '.join(row)} |" for row in body]
    if not lines:
        return ""
    left_out = total - len(lines)
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines]
    if left_out > 0:
        lines += ["", f"... and {left_out:,} more in `report.json`"]
    return "\n".join([f"### {title}", "", *lines] if title else lines)


def _bullets(lines: Sequence[str], rows: int) -> str:
    shown = [f"- {line}" for line in lines[:rows] if line]
    if len(lines) > rows:
        shown.append(f"- ... and {len(lines) - rows:,} more in `report.json`")
    return "\n".join(shown)


def _details(title: str, count: int, body: str) -> str:
    if not body:
        return ""
    number = f" ({count:,})" if count > 1 else ""
    return f"<details><summary>{title}{number}</summary>\n\n{body}\n\n</details>"


def _fit(text: str) -> str:
    """Cut at a line, close what is folded, say so: the last resort."""
    tail = "\n\n</details>\n\n... cut here; all of it is in `report.json`\n"
    room = MAX_BYTES - len(tail.encode()) - 1
    cut = text.encode()[:room].decode(errors="ignore")
    return cut[: cut.rfind("\n")] + tail
