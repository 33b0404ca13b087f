"""What is woken up for, and what waits until the morning: alert rules and a dashboard, as text.

Page: the system is not the certified one, or its answers are not PyTorch's. Ticket: its input has
moved, or the monitor itself is not looking. Thresholds are the monitor's own; there is none here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from exporter.monitor.metrics import PREFIX

PAGE, TICKET = "page", "ticket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One alert: when ``expr`` gives something for as long as ``wait``."""

    name: str
    expr: str
    severity: str
    summary: str
    todo: str
    wait: str = "0m"


RULES = (
    Rule(
        name="ExportVerifyMoved",
        expr=f'{PREFIX}_replay_state{{state="moved"}} == 1',
        severity=PAGE,
        summary="Golden inputs do not get the certified answer from {{ $labels.instance }}.",
        todo="'export-verify monitor replay model.onnx' there names the first layer.",
    ),
    Rule(
        name="ExportVerifyReplayFailed",
        expr=(
            f"{PREFIX}_replay_exit_code != 0"
            f' and on(job, instance) {PREFIX}_replay_state{{state="moved"}} == 0'
        ),
        severity=PAGE,
        summary="The last replay of {{ $labels.instance }} was not passed.",
        todo="'export-verify monitor replay model.onnx' there says why.",
    ),
    Rule(
        name="ExportVerifySealBroken",
        expr=f"{PREFIX}_seal_intact == 0",
        severity=PAGE,
        summary="The file of {{ $labels.instance }} is not the one that was certified.",
        todo="'export-verify inspect model.onnx' says what has changed in it.",
    ),
    Rule(
        name="ExportVerifyShadowMoved",
        expr=f'increase({PREFIX}_shadow_requests_total{{state="moved"}}[1h]) > 0',
        severity=PAGE,
        summary="A live request of {{ $labels.instance }} did not get PyTorch's answer.",
        todo="results.jsonl in the spool has the layer and what to do.",
    ),
    Rule(
        name="ExportVerifyShadowNotRun",
        expr=f'increase({PREFIX}_shadow_requests_total{{state="not_run"}}[1h]) > 0',
        severity=TICKET,
        summary="The worker of {{ $labels.instance }} cannot judge requests.",
        todo="results.jsonl in the spool says why.",
    ),
    Rule(
        name="ExportVerifyDrift",
        expr=f"{PREFIX}_drift_alarm == 1",
        severity=TICKET,
        summary="The input of {{ $labels.instance }} has moved: {{ $labels.signal }}.",
        todo="'export-verify monitor report LOG' shows since when; listen to recordings.",
    ),
    Rule(
        name="ExportVerifyReplayStale",
        expr=f"time() > {PREFIX}_replay_due_timestamp_seconds",
        severity=TICKET,
        summary="No replay has ended on {{ $labels.instance }} for twice as long as planned.",
        todo="Look at export_verify_monitor_errors_total and the service's own log.",
        wait="5m",
    ),
    Rule(
        name="ExportVerifyShadowWorkerGone",
        expr=(
            f"{PREFIX}_spool_files > 0 and"
            f" time() - {PREFIX}_shadow_worker_seen_timestamp_seconds > 900"
        ),
        severity=TICKET,
        summary="Requests of {{ $labels.instance }} wait, and no worker is there.",
        todo="Start 'export-verify monitor shadow SPOOL_DIR' again; it loses nothing.",
        wait="15m",
    ),
    Rule(
        name="ExportVerifyShadowDropped",
        expr=f"increase({PREFIX}_shadow_dropped_total[1h]) > 0",
        severity=TICKET,
        summary="{{ $labels.instance }} looks at fewer requests: {{ $labels.reason }}.",
        todo="A full spool wants a faster worker, or fewer requests (shadow_per_hour).",
        wait="1h",
    ),
    Rule(
        name="ExportVerifyMonitorErrors",
        expr=f"increase({PREFIX}_monitor_errors_total[1h]) > 0",
        severity=TICKET,
        summary="The monitor of {{ $labels.instance }} fails: {{ $labels.part }}.",
        todo="The service's own log has the message.",
    ),
    Rule(
        name="ExportVerifyAbsent",
        expr=f"absent({PREFIX}_build_info)",
        severity=TICKET,
        summary="No service with a monitor is scraped.",
        todo="Look at Prometheus' targets.",
        wait="15m",
    ),
)


def rules_yaml() -> str:
    """Alert rules for Prometheus."""
    lines = ["# Written by 'export-verify monitor rules'.", "groups:", "- name: export-verify"]
    lines.append("  rules:")
    for rule in RULES:
        lines += [
            f"  - alert: {rule.name}",
            f"    expr: {json.dumps(rule.expr)}",
            f"    for: {rule.wait}",
            "    labels:",
            f"      severity: {rule.severity}",
            "    annotations:",
            f"      summary: {json.dumps(rule.summary)}",
            f"      description: {json.dumps(rule.todo)}",
        ]
    return "\n".join(lines) + "\n"


_PANELS = (
    ("Replay: 1 at its state", f"{PREFIX}_replay_state == 1", "{{instance}} {{state}}"),
    ("Seal intact", f"{PREFIX}_seal_intact", "{{instance}}"),
    ("Largest error over its limit", f"{PREFIX}_limit_ratio", "{{instance}} {{source}}"),
    ("Requests per second", f"rate({PREFIX}_requests_total[5m])", "{{instance}}"),
    (
        "Shadow requests per hour",
        f"increase({PREFIX}_shadow_requests_total[1h])",
        "{{instance}} {{state}}",
    ),
    ("Dropped per hour", f"increase({PREFIX}_shadow_dropped_total[1h])", "{{instance}} {{reason}}"),
    ("Spool, share of its limit", f"{PREFIX}_spool_bytes / {PREFIX}_spool_limit_bytes", ""),
    (
        "Evidence of drift over what is enough",
        f"{PREFIX}_drift_evalue / on(instance) group_left {PREFIX}_drift_evalue_threshold",
        "{{instance}} {{signal}}",
    ),
    (
        "Share of the last recordings beyond the reference",
        f"{PREFIX}_drift_beyond_ratio",
        "{{instance}} {{signal}}",
    ),
)


def dashboard_json() -> str:
    """A dashboard for Grafana; the data source is asked for when it is imported."""
    panels: list[dict[str, Any]] = []
    for number, (title, expr, legend) in enumerate(_PANELS):
        panels.append(
            {
                "id": number + 1,
                "type": "timeseries",
                "title": title,
                "gridPos": {"h": 8, "w": 8, "x": 8 * (number % 3), "y": 8 * (number // 3)},
                "datasource": {"type": "prometheus", "uid": "${DS_PROMETHEUS}"},
                "targets": [{"refId": "A", "expr": expr, "legendFormat": legend}],
                "fieldConfig": {"defaults": {"min": 0}, "overrides": []},
                "options": {},
            }
        )
    board = {
        "__inputs": [
            {
                "name": "DS_PROMETHEUS",
                "label": "Prometheus",
                "type": "datasource",
                "pluginId": "prometheus",
            }
        ],
        "title": "export-verify",
        "uid": "export-verify",
        "schemaVersion": 39,
        "tags": ["export-verify"],
        "time": {"from": "now-7d", "to": "now"},
        "refresh": "1m",
        "panels": panels,
    }
    return json.dumps(board, indent=1) + "\n"
