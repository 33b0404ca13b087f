"""What a service has written, as a page for people: time lines, and what happened. One file, no
script, nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment

from exporter.core.errors import UserInputError
from exporter.core.reading import Door
from exporter.monitor.log import read_log
from exporter.monitor.words import WordErrors
from exporter.report.breaks import breakable

DOOR = Door(
    error=UserInputError,
    says="not a log of a Monitor",
    remedy="give the file that a Monitor's 'log' names, or results.jsonl of a spool",
)
WIDTH, HEIGHT, MOST_EVENTS = 800, 60, 200
_TEMPLATE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>export-verify monitor</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --quiet: #595959; --bad: #b00020;
 --box: #f6f6f6; --curve: #1f77b4; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181c;
 --quiet: #a3a3a3; --bad: #ff8a80; --box: #22262c; --curve: #8ec5ff; } }
body { font-family: sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em;
 color: var(--ink); background: var(--paper); overflow-wrap: break-word; }
svg { background: var(--box); width: 100%; height: 60px; }
polyline { fill: none; stroke: var(--curve); }
line { stroke: var(--bad); stroke-dasharray: 4; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: 0.2em 1em 0.2em 0; vertical-align: top; }
.bad { color: var(--bad); font-weight: bold; } .quiet { color: var(--quiet); }
@media (max-width: 40em) { h1 { font-size: 1.4em; } h3 { font-size: 1em; }
 th { display: none; } td { display: block; padding: 0; } tr { display: block; margin-top: 1em; } }
@media print { h3, svg, tr { break-inside: avoid; } h3 { break-after: avoid; } }
</style></head><body>
<h1>{{ headline }}</h1>
<p class="quiet">{{ log|breakable }}, {{ count }} rows, {{ since }} to {{ until }} (UTC)</p>
{% if words %}<h2>Word errors of labelled recordings</h2><p>{{ words }}</p>{% endif %}
<h2>Time lines</h2>
{% for line in lines %}
<h3 class="{{ 'bad' if line.bad else '' }}">{{ line.name }}</h3>
<svg viewBox="0 0 {{ width }} {{ height }}" preserveAspectRatio="none" role="img"
 aria-label="{{ line.name }}, last {{ line.last }}">
<line x1="0" x2="{{ width }}" y1="{{ line.limit }}" y2="{{ line.limit }}"/>
<polyline points="{{ line.points }}"/></svg>
<p class="quiet">last {{ line.last }}; dashed: {{ line.why }}</p>
{% else %}<p>No row has a figure yet.</p>
{% endfor %}
<h2>What happened</h2>
<table><tr><th>when</th><th>what</th><th>state</th><th>why</th></tr>
{% for event in events %}
<tr><td>{{ event.at }}</td><td>{{ event.what }}</td>
<td class="{{ 'bad' if event.bad else '' }}">{{ event.state }}</td>
<td>{{ event.why|breakable }}</td></tr>
{% else %}<tr><td colspan="4">Nothing but what is certified.</td></tr>
{% endfor %}</table></body></html>
"""
_GOOD = frozenset({"same", "within_rounding", "environment_moved", "rounding"})


def page_of(log: Path, words: WordErrors | None = None) -> str:
    """The page of a log.

    Raises:
        UserInputError: it is none, or holds nothing.
    """
    rows = [row for row in read_log(log, DOOR) if _is_row(row)]
    if not rows:
        raise DOOR.bad(log, "it holds no rows")
    lines = [*_strain_lines(rows), *_drift_lines(rows)]
    events = [event for row in rows for event in _events(row)]
    bad = sum(event["bad"] for event in events)
    environment = Environment(autoescape=True)
    environment.filters["breakable"] = breakable
    return environment.from_string(_TEMPLATE).render(
        headline=f"{bad} finding(s)" if bad else "Nothing was found",
        log=str(log),
        count=len(rows),
        since=_at(rows[0]),
        until=_at(rows[-1]),
        words="" if words is None else words.sentence(),
        lines=lines,
        events=list(reversed(events))[:MOST_EVENTS],
        width=WIDTH,
        height=HEIGHT,
    )


def _is_row(row: dict[str, Any]) -> bool:
    """Whether a line can be drawn: somebody else's log is none of ours."""
    evalues, alarms = row.get("evalues", {}), row.get("alarms", [])
    return (
        _is_time(row.get("time"))
        and isinstance(evalues, dict)
        and all(isinstance(value, int | float) for value in evalues.values())
        and isinstance(alarms, list)
        and isinstance(row.get("seal_changes") or [], list)
        and (row.get("kind") != "drift" or _is_limit(row.get("threshold")))
    )


def _is_limit(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value < 1e11


def _at(row: dict[str, Any]) -> str:
    return datetime.fromtimestamp(row["time"], UTC).strftime("%Y-%m-%d %H:%M:%S")


def _strain_lines(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for kind, name in (("replay", "replays"), ("shadow", "shadow requests")):
        points = [
            (row["time"], row["strain"])
            for row in rows
            if row.get("kind") == kind and isinstance(row.get("strain"), int | float)
        ]
        if points:
            found.append(_line(f"{name}: largest error over its limit", points, 1.0, "the limit"))
    return found


def _drift_lines(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    drifts = [row for row in rows if row.get("kind") == "drift"]
    names = sorted({name for row in drifts for name in row.get("evalues", {})})
    found = []
    for name in names:
        points = [(r["time"], r["evalues"][name]) for r in drifts if name in r.get("evalues", {})]
        limit = float(drifts[-1]["threshold"])
        logs = [(at, math.log10(max(value, 1e-3)) + 3) for at, value in points]
        line = _line(f"evidence that {name} has moved", logs, math.log10(limit) + 3, "enough")
        found.append(line | {"last": f"{points[-1][1]:.3g}", "bad": points[-1][1] >= limit})
    return sorted(found, key=lambda line: not line["bad"])


def _line(
    name: str, points: Sequence[tuple[float, float]], limit: float, why: str
) -> dict[str, Any]:
    """Coordinates; what is not finite is drawn at the top."""
    first, last = points[0][0], points[-1][0]
    finite = [value for _, value in points if math.isfinite(value)]
    top = 1.1 * max([limit, *finite]) or 1.0
    drawn = [
        f"{WIDTH * (at - first) / ((last - first) or 1):.1f},"
        f"{HEIGHT * (1 - (value / top if math.isfinite(value) else 1.0)):.1f}"
        for at, value in points
    ]
    return {
        "name": name,
        "points": " ".join(drawn),
        "limit": f"{HEIGHT * (1 - limit / top):.1f}",
        "last": f"{points[-1][1]:.3g}",
        "why": why,
        "bad": not points[-1][1] <= limit,
    }


def _events(row: dict[str, Any]) -> list[dict[str, Any]]:
    """What a row is worth a line for: all replays, and requests and drift that are not good."""
    kind, state = row.get("kind"), str(row.get("state", ""))
    why = " ".join(str(row[name]) for name in ("first_layer", "reason", "advice") if row.get(name))
    if kind == "replay":
        changes = row.get("seal_changes") or []
        bad = state not in _GOOD or bool(changes) or row.get("exit_code", 0) != 0
        text = "; ".join([why, *(f"changed: {change}" for change in changes)])
        return [{"at": _at(row), "what": "replay", "state": state, "why": text, "bad": bad}]
    if kind == "shadow" and state not in _GOOD:
        return [{"at": _at(row), "what": "request", "state": state, "why": why, "bad": True}]
    if kind == "drift" and row.get("alarms"):
        names = ", ".join(map(str, row["alarms"]))
        return [{"at": _at(row), "what": "drift", "state": "moved", "why": names, "bad": True}]
    return []
