"""A log as a page; labels as a rate with a confidence sequence that keeps its word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from exporter.cli import main
from exporter.monitor import Monitor
from exporter.monitor.drift import Drift, plan_tests
from exporter.monitor.log import RequestLog
from exporter.monitor.metrics import Metrics
from exporter.monitor.page import page_of
from exporter.monitor.signals import SIGNALS
from exporter.monitor.waiting import Served
from exporter.monitor.words import rate_of


def test_a_page_shows_what_was_found_and_escapes_it(tmp_path: Path, capsys: pytest.CaptureFixture):
    log, page = tmp_path / "log.jsonl", tmp_path / "page.html"
    evalues = {"level_db": 7000.0, "dc_ratio": 0.1}
    rows = [
        {"time": 1e9, "kind": "replay", "state": "same", "strain": 0.2},
        {
            "time": 1e9 + 60,
            "kind": "drift",
            "threshold": 5800,
            "alarms": ["level_db"],
            "evalues": evalues,
        },
        {"time": 1e9 + 99, "kind": "shadow", "state": "moved", "first_layer": "<b>encoder</b>"},
    ]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')
    labels = tmp_path / "labels.jsonl"
    line = {"stratum": "random", "hypothesis": "a b d", "reference": "a b c"}
    labels.write_text((json.dumps(line) + "\n") * 3)
    words = ["monitor", "report", str(log), "--output", str(page), "--labels", str(labels)]
    assert main(words) == 0
    text = page.read_text()
    assert "2 finding(s)" in text and "&lt;b&gt;encoder" in text and "<b>" not in text
    assert "33.3 % (3 of 9 words" in capsys.readouterr().out
    log.write_text("")
    assert main(words) == 2


def test_a_row_that_a_monitor_writes_of_drift_is_a_line_with_its_limit(tmp_path: Path):
    tests = plan_tests({"level_db": np.linspace(-1, 1, 40)}, SIGNALS)
    monitor = Monitor.__new__(Monitor)
    monitor._drift, monitor._log = Drift(tests), RequestLog(tmp_path / "log.jsonl")
    monitor.metrics, monitor._alarms = Metrics(), ()
    item = Served(
        inputs={"waveform": np.full(600, 1e-3, np.float32)}, outputs={}, wanted=(True, False)
    )
    for _ in range(60):
        monitor._take_signals(item, 16000)
    assert monitor._drift.alarms == ("level_db",)
    text = page_of(tmp_path / "log.jsonl")
    assert '<h3 class="bad">evidence that level_db has moved' in text
    assert "nan" not in text


def test_what_did_not_pass_is_a_finding_and_strange_rows_are_left_out(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    row = {"time": 1, "kind": "replay", "state": "same", "exit_code": 1}
    strange = ({"evalues": 1}, {"evalues": {"x": "y"}}, {"alarms": 1}, {"threshold": "x"}, {})
    rows = [row, *({"time": 2, "kind": "drift", **more} for more in strange)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = page_of(log)
    assert "1 finding(s)" in text and ", 1 rows," in text


def test_the_rate_is_in_its_confidence_sequence_at_all_times():
    draw, left = np.random.default_rng(0), 0
    for _ in range(100):
        counts = [(int(draw.binomial(w, 0.2)), int(w)) for w in draw.integers(1, 30, size=60)]
        left += any(
            not rate_of(counts[:n]).low <= 0.2 <= rate_of(counts[:n]).high for n in (5, 20, 60)
        )
    assert left <= 5


def test_labels_that_are_none_are_refused(tmp_path: Path):
    log, labels = tmp_path / "log.jsonl", tmp_path / "labels.jsonl"
    log.write_text('{"time": 1, "kind": "replay", "state": "same"}\n')
    for text in ("", "[1]\n", '{"stratum": "low margin", "hypothesis": "", "reference": "a"}\n'):
        labels.write_text(text)
        page = str(tmp_path / "p.html")
        assert main(["monitor", "report", str(log), "--labels", str(labels), "--output", page]) == 2
