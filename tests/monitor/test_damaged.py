"""Logs and spools in which something stands that no monitor writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.core.errors import UserInputError
from exporter.flows.monitor import served_file
from exporter.monitor.page import page_of
from exporter.monitor.shadow import SAME, STATES, JudgedRequest, Worker

HUGE = 10**400
REPLAY = {"time": 1.7e9, "kind": "replay", "state": "same", "strain": 0.5, "exit_code": 0}
DRIFT = {"time": 1.7e9, "kind": "drift", "evalues": {"level": 3.0}, "threshold": 20.0, "alarms": []}
SHADOW = {"time": 1.7e9, "kind": "shadow", "seq": 1, "id": "a", "state": "same", "strain": 0.1}
STATE = {"seq": 0, "counts": dict.fromkeys(STATES, 0), "strain": None, "seen": 1.0}


@pytest.mark.parametrize(
    "row",
    [
        {**REPLAY, "time": HUGE},
        {**REPLAY, "strain": HUGE},
        {**DRIFT, "evalues": {"level": HUGE}},
        {**DRIFT, "threshold": HUGE},
        {**DRIFT, "threshold": 1e-3, "evalues": {"level": 1e-9}},
        {**DRIFT, "threshold": 1e-9},
        "[" * 100_000,
    ],
)
def test_a_page_is_written_whatever_a_row_says(tmp_path: Path, row: Any):
    log = tmp_path / "log.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row), json.dumps(REPLAY)]
    log.write_text("\n".join(lines))
    assert "largest error over its limit" in page_of(log)


def spool(folder: Path, state: Any, row: Any) -> Path:
    """With one request that waits, whatever it holds."""
    (folder / "worker.json").write_text(json.dumps(state))
    line = row if isinstance(row, str) else json.dumps(row)
    (folder / "results.jsonl").write_text(line + "\n")
    (folder / "00001-1-000000.npz").write_bytes(b"none")
    return folder


def counted(folder: Path) -> dict[str, int]:
    return dict(Worker(folder, lambda request: JudgedRequest(state=SAME)).work(once=True))


@pytest.mark.parametrize(
    "row",
    [
        {**SHADOW, "state": "new"},
        {**SHADOW, "state": []},
        {**SHADOW, "seq": "x"},
        {**SHADOW, "seq": None},
        {**SHADOW, "seq": HUGE},
        {**SHADOW, "strain": "x"},
        {"seq": 9},
        "[" * 100_000,
    ],
)
def test_a_row_that_no_worker_writes_is_not_counted(tmp_path: Path, row: Any):
    counts = counted(spool(tmp_path, STATE, row))
    assert counts == {**dict.fromkeys(STATES, 0), "not_run": 1}


def test_a_row_that_was_not_counted_yet_is(tmp_path: Path):
    assert counted(spool(tmp_path, STATE, SHADOW))["same"] == 1


@pytest.mark.parametrize(
    "state",
    [
        {**STATE, "seq": "x"},
        {**STATE, "seq": -1},
        {**STATE, "counts": []},
        {**STATE, "counts": {"same": 1}},
        {**STATE, "counts": {**dict.fromkeys(STATES, 0), "moved": "x"}},
        {**STATE, "strain": "x"},
        {**STATE, "seen": None},
        [],
    ],
)
def test_counts_that_are_none_are_refused(tmp_path: Path, state: Any):
    with pytest.raises(UserInputError, match="not a log of a shadow worker"):
        counted(spool(tmp_path, state, SHADOW))


@pytest.mark.parametrize(
    "name", ["a\0b", "x" * 5000, "~no-one-of-this-name/model.onnx", "\ud800", 3, None]
)
def test_a_service_that_names_no_file_is_refused(tmp_path: Path, name: Any):
    (tmp_path / "service.json").write_text(json.dumps({"model": name}))
    with pytest.raises(UserInputError):
        served_file(tmp_path)
