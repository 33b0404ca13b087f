"""Ratios of what costs time stay below their limits, and a ratio that is not known is no pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"


@pytest.fixture
def judged(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench

    return bench.judged


def test_ratios_below_their_limits_pass(judged):
    found = judged({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 3.0})
    assert found["verdict"] == "pass"
    assert [row["verdict"] for row in found["ratios"]] == ["pass", "pass"]


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(3.1, "fail"), (None, "not run"), (float("nan"), "not run"), (float("inf"), "not run")],
)
def test_anything_else_fails(judged, ratio, verdict):
    found = judged({"a": 1.0, "b": ratio}, {"a": 1.0, "b": 3.0})
    assert found["verdict"] == "fail"
    assert found["ratios"][1]["verdict"] == verdict
    json.dumps(found, allow_nan=False)


def test_a_ratio_that_is_missing_fails(judged):
    assert judged({}, {"a": 1.0})["verdict"] == "fail"
    assert judged({"a": 1.0}, {})["verdict"] == "fail"


@pytest.mark.slow
def test_what_costs_time_costs_no_more_than_it_may(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPTS / "bench.py", "--quick", "--output", tmp_path / "bench.json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert found["verdict"] == "pass" and found["machine"]["versions"]["torch"]
    assert {row["name"] for row in found["ratios"]} == {"warm over cold", "layers", "contracts"}
