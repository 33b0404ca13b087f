"""What a monitor holds is bounded, whatever comes and however slow it is itself."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from exporter.monitor import Monitor
from exporter.monitor.waiting import MOST_REQUESTS
from exporter.runtime import SpeechRunner
from tests.monitor.test_prometheus import with_reference
from tests.monitor.test_replay import values

REQUESTS = 10_000


def resident_mib() -> float:
    return psutil.Process().memory_info().rss / 2**20


@pytest.mark.slow
def test_ten_thousand_requests_take_no_more_than_the_first_thousand(tmp_path: Path):
    path, golden = with_reference(tmp_path)
    monitor = Monitor(
        golden, port=0, log=tmp_path / "log", spool=tmp_path / "spool", signals_per_minute=1e9
    )
    runner = SpeechRunner(path, threads=1, monitor=monitor)
    draw = np.random.default_rng(0)
    sounds = [draw.normal(scale=0.3, size=4 * n).astype(np.float32) for n in (800, 200, 1600)]
    feeds = [{"waveform": sound} for sound in sounds]
    found = [runner.run_arrays(held) for held in feeds]
    for number in range(REQUESTS):  # of the monitor alone: what the runner takes is its own
        monitor.served(feeds[number % 3], found[number % 3])
        if number % 50 == 0:
            assert monitor.drain(60)
        if number == REQUESTS // 10:
            before = resident_mib()
    assert monitor.drain(60)
    grown = resident_mib() - before
    said = values(monitor)
    monitor.close()
    seen = said["export_verify_drift_recordings_total"]
    dropped = said["export_verify_shadow_dropped_total[queue_full]"]
    assert said["export_verify_requests_total"] == REQUESTS == seen + dropped
    assert seen > 1000
    assert grown < 8, f"{grown:.1f} MiB"


def test_a_monitor_that_does_not_keep_up_holds_what_its_queue_may(tmp_path: Path, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(Monitor, "_take_signals", lambda *_: go_on.wait(60))
    path, golden = with_reference(tmp_path)
    monitor = Monitor(golden, port=0, signals_per_minute=1e9)
    monitor.attach(SpeechRunner(path, threads=1))
    sound, before = np.ones(25_000, np.float32), resident_mib()
    for _ in range(REQUESTS):  # 954 MiB
        monitor.served({"waveform": sound}, {})
    grown = resident_mib() - before
    said = values(monitor)
    go_on.set()
    monitor.close()
    dropped = said["export_verify_shadow_dropped_total[queue_full]"]
    # One is in hand beside those that wait.
    assert REQUESTS - dropped in (MOST_REQUESTS, MOST_REQUESTS + 1)
    assert grown < 64, f"{grown:.1f} MiB"
