"""A spool is bounded and whole; kill -9 of its worker loses nothing but the request in hand."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from exporter.cli import main
from exporter.core.errors import UserInputError
from exporter.monitor import Monitor
from exporter.monitor.log import read_log
from exporter.monitor.shadow import (
    AMBIGUOUS,
    DOOR,
    MOVED,
    NOT_RUN,
    SAME,
    JudgedRequest,
    Worker,
    read_state,
)
from exporter.monitor.spool import (
    AGAIN,
    Spool,
    SpoolFullError,
    read_request,
    requests_in,
    take,
    waiting,
)
from exporter.monitor.waiting import WaitingRequests
from exporter.runtime import SpeechRunner
from tests.monitor.test_replay import values
from tests.monitor.toy import toy
from tests.support.segment_toys import loud

INPUTS = {"waveform": np.arange(8, dtype=np.float32), "language": np.array(3)}
OUTPUTS = {"token_ids": np.array([[1, 2]])}


def test_a_request_comes_back_as_it_was_and_is_private(tmp_path: Path):
    spool = Spool(tmp_path / "spool")
    spool.add(INPUTS, OUTPUTS)
    (path,) = requests_in(spool.folder)
    assert path.stat().st_mode & 0o777 == 0o600
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    held = read_request(take(path))
    assert held.inputs.keys() == INPUTS.keys() and held.outputs.keys() == OUTPUTS.keys()
    assert np.array_equal(held.inputs["waveform"], INPUTS["waveform"])
    assert held.inputs["language"].shape == ()


def test_a_spool_takes_what_it_may_and_no_more(tmp_path: Path):
    spool = Spool(tmp_path / "files", most_files=3)
    for _ in range(3):
        spool.add(INPUTS, OUTPUTS)
    with pytest.raises(SpoolFullError):
        spool.add(INPUTS, OUTPUTS)
    spool = Spool(tmp_path / "bytes", most_bytes=3000)
    with contextlib.suppress(SpoolFullError):
        for _ in range(10):
            spool.add(INPUTS, OUTPUTS)
    assert 0 < waiting(spool.folder)[0] < 9
    assert waiting(spool.folder)[1] <= 3000
    with pytest.raises(UserInputError, match="spool"):
        Spool(tmp_path / "none", most_files=0)


def test_a_queue_never_waits_and_is_bounded(tmp_path: Path):
    held = WaitingRequests(most=2, most_bytes=1000)
    assert held.put(INPUTS, OUTPUTS, (True, False))
    assert held.put(INPUTS, OUTPUTS, (True, False))
    assert not held.put(INPUTS, OUTPUTS, (True, False)), "two are enough"
    item = held.get(1)
    assert item is not None and item.inputs["waveform"] is not INPUTS["waveform"]
    assert not held.put({"waveform": np.zeros(1000)}, {}, (True, False)), "too many bytes"
    assert held.put(INPUTS, OUTPUTS, (True, False))


def same(request: object) -> JudgedRequest:
    return JudgedRequest(state=SAME)


def test_a_worker_counts_judges_once_and_takes_away(tmp_path: Path):
    spool = Spool(tmp_path)
    names = [spool.add(INPUTS, OUTPUTS) for _ in range(3)]
    counts = Worker(tmp_path, same).work(once=True)
    assert counts[SAME] == 3 and waiting(tmp_path)[0] == 0
    rows = list(read_log(tmp_path / "results.jsonl", DOOR))
    assert [row["id"] for row in rows] == names and [row["seq"] for row in rows] == [1, 2, 3]
    spool.add(INPUTS, OUTPUTS)
    assert Worker(tmp_path, same).work(once=True)[SAME] == 4, "another worker goes on counting"


def test_what_cannot_be_judged_is_not_run_and_never_lost_silently(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.add(INPUTS, OUTPUTS)
    (tmp_path / "0-damaged.npz").write_bytes(b"PK\x03\x04 no archive")

    def stops(request: object) -> JudgedRequest:
        raise AssertionError("no such layer")

    counts = Worker(tmp_path, stops).work(once=True)
    assert counts[NOT_RUN] == 2 and waiting(tmp_path)[0] == 0


CODE = """
import sys, time
from pathlib import Path
from exporter.monitor.shadow import JudgedRequest, Worker
def judge(request):
    time.sleep(float(sys.argv[2]))
    return JudgedRequest(state="same")
Worker(Path(sys.argv[1]), judge).work(once=True)
"""


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path):
    spool = Spool(tmp_path)
    names = [spool.add(INPUTS, OUTPUTS) for _ in range(40)]
    kills = 0
    for number in range(4):
        words = [sys.executable, "-c", CODE, str(tmp_path), "0.05"]
        worker = subprocess.Popen(words)
        started = read_state(tmp_path) or {"seq": 0}
        while (read_state(tmp_path) or {"seq": 0})["seq"] < started["seq"] + 3:
            if worker.poll() is not None:
                break
            time.sleep(0.01)
        time.sleep(0.007 * number)
        if worker.poll() is None:
            os.kill(worker.pid, signal.SIGKILL)
            kills += 1
        worker.wait()
    assert kills == 4
    counts = Worker(tmp_path, same).work(once=True)
    rows = list(read_log(tmp_path / "results.jsonl", DOOR))
    assert sorted(row["id"] for row in rows) == sorted(names), "each once, none lost"
    assert counts[SAME] == 40 and sum(counts.values()) == 40


@pytest.mark.parametrize("where", ["row", "count"])
def test_a_kill_between_two_steps_counts_once(tmp_path: Path, where: str, monkeypatch):
    """Row, count, file: the worker dies behind the first, or behind the second."""
    spool = Spool(tmp_path)
    spool.add(INPUTS, OUTPUTS)

    class Killed(BaseException):
        pass

    def dies(*given: object) -> None:
        raise Killed

    worker = Worker(tmp_path, same)
    worker._recover()
    monkeypatch.setattr(worker, "_count" if where == "row" else "_beat", dies)
    with pytest.raises(Killed):
        worker._one(take(requests_in(tmp_path)[0]))
    assert waiting(tmp_path)[0] == 1
    assert Worker(tmp_path, same).work(once=True)[SAME] == 1
    assert waiting(tmp_path)[0] == 0
    assert len(list(read_log(tmp_path / "results.jsonl", DOOR))) == 1


def test_a_request_that_kills_twice_is_given_up(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.add(INPUTS, OUTPUTS)
    spool.add(INPUTS, OUTPUTS)
    take(take(requests_in(tmp_path)[0]))
    counts = Worker(tmp_path, same).work(once=True)
    assert counts == {"same": 1, "rounding": 0, "ambiguous": 0, "moved": 0, "not_run": 1}


def test_a_request_that_was_judged_the_second_time_is_judged(tmp_path: Path):
    """Its worker was killed behind the row: it did not die with it twice."""
    spool = Spool(tmp_path)
    name = spool.add(INPUTS, OUTPUTS)
    Worker(tmp_path, same).work(once=True)
    (tmp_path / f"{name}{AGAIN}").write_bytes(b"")
    counts = Worker(tmp_path, same).work(once=True)
    assert counts[SAME] == 1 and counts[NOT_RUN] == 0 and waiting(tmp_path)[0] == 0


@pytest.mark.parametrize(("state", "code"), [(SAME, 0), (AMBIGUOUS, 1), (MOVED, 1), (NOT_RUN, 1)])
def test_once_ends_with_zero_only_where_all_agrees(
    state: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Spool(tmp_path).add(INPUTS, OUTPUTS)
    monkeypatch.setattr(
        "exporter.flows.monitor.shadow_judge", lambda *_: lambda _: JudgedRequest(state=state)
    )
    assert main(["monitor", "shadow", str(tmp_path), "--once"]) == code


def test_a_half_written_row_costs_that_row_only(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.add(INPUTS, OUTPUTS)
    Worker(tmp_path, same).work(once=True)
    with (tmp_path / "results.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "shadow", "seq": 2, "st')
    spool.add(INPUTS, OUTPUTS)
    assert Worker(tmp_path, same).work(once=True)[SAME] == 2
    assert len(list(read_log(tmp_path / "results.jsonl", DOOR))) == 2


@pytest.mark.slow
def test_a_full_spool_and_a_dead_worker_are_seen(tmp_path: Path):
    path, golden = toy(tmp_path)
    spool = tmp_path / "spool"
    monitor = Monitor(golden, port=0, spool=spool, shadow_per_hour=1e6, spool_bytes=4000)
    runner = SpeechRunner(path, threads=1, monitor=monitor)
    for _ in range(5):
        runner.run(loud(1, 2))
    assert monitor.drain(30)
    said = values(monitor)
    assert said["export_verify_shadow_dropped_total[spool_full]"] > 0
    assert said["export_verify_spool_bytes"] <= said["export_verify_spool_limit_bytes"] == 4000
    assert said["export_verify_spool_files"] > 0
    assert said["export_verify_shadow_worker_seen_timestamp_seconds"] == 0
    Worker(spool, lambda request: JudgedRequest(state=MOVED, first_layer="encoder")).work(once=True)
    said = values(monitor)
    assert said["export_verify_spool_files"] == 0
    assert said["export_verify_shadow_requests_total[moved]"] > 0
    assert abs(said["export_verify_shadow_worker_seen_timestamp_seconds"] - time.time()) < 60
    assert json.loads((spool / "service.json").read_text())["model"] == str(path)
    monitor.close()


def test_no_audio_leaves_the_process_unless_it_is_asked_for(tmp_path: Path):
    path, golden = toy(tmp_path / "toy")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    monitor = Monitor(golden)
    runner = SpeechRunner(path, threads=1, monitor=monitor)
    runner.run(loud(1))
    monitor.wait(60)
    monitor.close()
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_folder_that_is_no_spool_is_refused(tmp_path: Path):
    with pytest.raises(UserInputError, match="no spool"):
        Worker(tmp_path / "none", same)
    (tmp_path / "worker.json").write_text("[]")
    with pytest.raises(UserInputError, match="worker.json"):
        Worker(tmp_path, same).work(once=True)
