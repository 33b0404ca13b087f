"""End to end with Debian's Prometheus: a degradation is fed and the alert fires; without, not."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from exporter.golden.check import asked_of
from exporter.monitor import Monitor
from exporter.monitor.recorded import read_recorded, write_recorded
from exporter.monitor.rules import RULES, dashboard_json, rules_yaml
from exporter.monitor.signals import signals_of
from exporter.runtime import SpeechRunner
from tests.monitor.toy import pipeline, toy


def recording(draw: np.random.Generator) -> np.ndarray:
    return draw.normal(scale=0.3, size=4096).astype(np.float32)


def with_reference(folder: Path) -> tuple[Path, Path]:
    path, golden = toy(folder)
    runner, draw, rows = SpeechRunner(path, threads=1), np.random.default_rng(0), []
    for _ in range(60):
        wave = recording(draw)
        rows.append(signals_of(wave, 16000, runner.run_arrays({"waveform": wave})))
    kept = read_recorded(golden)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    cases = [case for _, case in kept.cases]
    write_recorded(golden, kept.golden, asked_of(pipeline(folder)), cases, columns)
    return path, golden


def test_the_rules_are_good_in_promtools_eyes(tmp_path: Path):
    (tmp_path / "alerts.yaml").write_text(rules_yaml())
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "alerts.yaml"], capture_output=True, text=True
    )
    assert done.returncode == 0 and f"{len(RULES)} rules found" in done.stdout, done.stderr
    assert {rule.severity for rule in RULES} == {"page", "ticket"}
    assert len(json.loads(dashboard_json())["panels"]) == 9


STALE = """\
rule_files: [alerts.yaml]
evaluation_interval: 1m
tests:
- interval: 1m
  input_series:
  - {series: 'export_verify_replay_due_timestamp_seconds{instance="daily"}', values: '3600x200'}
  - {series: 'export_verify_replay_due_timestamp_seconds{instance="once"}', values: 'INFINITE'}
  alert_rule_test:
  - {eval_time: 59m, alertname: ExportVerifyReplayStale, exp_alerts: []}
  - eval_time: 70m
    alertname: ExportVerifyReplayStale
    exp_alerts:
    - exp_labels: {severity: ticket, instance: daily}
      exp_annotations: ANNOTATIONS
"""


def test_only_a_replay_that_was_planned_can_be_stale(tmp_path: Path):
    rule = next(rule for rule in RULES if rule.name == "ExportVerifyReplayStale")
    said = {
        "summary": rule.summary.replace("{{ $labels.instance }}", "daily"),
        "description": rule.todo,
    }
    (tmp_path / "alerts.yaml").write_text(rules_yaml())
    text = STALE.replace("ANNOTATIONS", json.dumps(said)).replace("INFINITE", "Inf " * 100)
    (tmp_path / "tests.yaml").write_text(text)
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_metrics_are_good_in_promtools_eyes(tmp_path: Path):
    path, golden = with_reference(tmp_path)
    monitor = Monitor(golden, port=0, spool=tmp_path / "spool", shadow_per_hour=1e6)
    runner = SpeechRunner(path, threads=1, monitor=monitor)
    runner.run(recording(np.random.default_rng(1)))
    monitor.wait(60)
    assert monitor.drain(30)
    with urllib.request.urlopen(f"http://127.0.0.1:{monitor.port}/metrics") as answer:
        text = answer.read()
    monitor.close()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def prometheus(folder: Path, target: int) -> tuple[subprocess.Popen, int]:
    assert shutil.which("prometheus"), "scripts/install-system-packages installs it"
    (folder / "alerts.yaml").write_text(rules_yaml())
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n"
        "rule_files: [alerts.yaml]\n"
        "scrape_configs:\n"
        "- job_name: service\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
    )
    port = free_port()
    words = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        return subprocess.Popen(words, stdout=log, stderr=log), port


def asked(port: int, what: str) -> dict:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{what}", timeout=5) as answer:
            return json.loads(answer.read())["data"]
    except OSError:
        return {}


def firing(port: int) -> set[str]:
    """Names and signals of alerts that fire."""
    alerts = asked(port, "alerts").get("alerts", [])
    return {
        f"{a['labels']['alertname']} {a['labels'].get('signal', '')}".strip()
        for a in alerts
        if a["state"] == "firing"
    }


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[SpeechRunner, Monitor, int]]:
    path, golden = with_reference(tmp_path)
    monitor = Monitor(golden, port=0, signals_per_minute=6000)
    runner = SpeechRunner(path, threads=1, monitor=monitor)
    assert monitor.wait(120) is not None
    server, port = prometheus(tmp_path, monitor.port)
    try:
        yield runner, monitor, port
    finally:
        server.terminate()
        server.wait()
        monitor.close()


def until(port: int, wanted: str, seconds: float = 60.0) -> set[str]:
    end = time.monotonic() + seconds
    while time.monotonic() < end and wanted not in firing(port):
        time.sleep(0.2)
    return firing(port)


@pytest.mark.slow
@pytest.mark.parametrize("gain", [1.0, 0.2])
def test_a_degradation_that_is_fed_fires_and_nothing_else_does(watched, gain: float):
    runner, monitor, port = watched
    draw = np.random.default_rng(2)
    for _ in range(80):
        runner.run(np.float32(gain) * recording(draw))
    assert monitor.drain(60)
    if gain < 1:
        assert "ExportVerifyDrift level_db" in until(port, "ExportVerifyDrift level_db")
        return
    query = "query?query=export_verify_drift_recordings_total"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = asked(port, query).get("result", [])
        if found and float(found[0]["value"][1]) == 80:
            break
        time.sleep(0.2)
    assert found and float(found[0]["value"][1]) == 80, "Prometheus has seen the last recording"
    time.sleep(1.0)  # five evaluations
    assert firing(port) == set()
