"""The export's benchmark: what it calls equal, what it calls half, and that it runs."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
OPTIONS = argparse.Namespace(threads=1, full=False, blocks=None)
EQUAL = {"samples": 400, "integers equal": True, "largest difference": 1e-6}


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_export

    return bench_export


def side(seconds, error=""):
    return {"stages": {"all": seconds}, "cpu": {"all": seconds}, "peak_gb": 1.0, "error": error}


def summed(bench, ours, plain, pairs=(EQUAL,), error=""):
    rounds = [{"ours": side(a), "plain": side(b, error)} for a, b in zip(ours, plain, strict=True)]
    return bench.summary(rounds, list(pairs), OPTIONS)


def test_half_of_the_time_is_held_and_more_is_not(bench):
    held = summed(bench, [9.0, 4.0, 5.0], [10.0, 10.0, 30.0])
    assert held["ratio"] == 0.5 and held["held"]
    assert "ours / plain: 0.50" in bench.table(held)
    assert not summed(bench, [5.1], [10.0])["held"]


@pytest.mark.parametrize(
    "row",
    [
        {**EQUAL, "integers equal": False},
        {**EQUAL, "largest difference": float("inf")},
        {**EQUAL, "largest difference": 0.01},
        {"samples": 400, "ours stops": "why"},
    ],
    ids=["tokens", "shape", "floats", "ours stops"],
)
def test_files_that_differ_are_not_held(bench, row):
    found = summed(bench, [1.0], [10.0], pairs=[EQUAL, row])
    assert not found["held"]
    assert "samples" in bench.table(found)


def test_without_a_comparison_nothing_is_held(bench):
    assert not summed(bench, [1.0], [10.0], pairs=[{"samples": 400, "plain stops": "why"}])["held"]
    failed = summed(bench, [1.0], [10.0], error="ConversionError: why")
    assert failed["ratio"] is None and not failed["held"]
    assert "ConversionError: why" in bench.table(failed)


def test_differences_are_of_integers_floats_and_shapes(bench):
    left = {"ids": np.array([1, 2]), "p": np.array([0.5, 0.25], np.float32)}
    assert bench._difference(left, left) == {"integers equal": True, "largest difference": 0.0}
    moved = {"ids": np.array([1, 3]), "p": np.array([0.5, 0.75], np.float32)}
    assert bench._difference(left, moved) == {"integers equal": False, "largest difference": 0.5}
    short = {**left, "p": left["p"][:1]}
    assert not bench._difference(left, short)["integers equal"]


def test_the_first_cause_of_an_error_is_what_is_said(bench):
    try:
        try:
            raise ValueError("the cause\nand more")
        except ValueError as inner:
            raise RuntimeError("wrapped") from inner
    except RuntimeError as error:
        assert bench.reason(error) == "ValueError: the cause"


@pytest.mark.slow
def test_both_sides_export_the_tiny_pipeline_and_agree(tmp_path):
    record = tmp_path / "bench.json"
    command = [sys.executable, SCRIPTS / "bench_export.py", "--tiny", "--threads", "1"]
    done = subprocess.run(
        [*command, "--json", record],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(record.read_text(encoding="utf-8"))
    # At this size the goal is not held: it is the files that count here.
    assert done.returncode in (0, 1), done.stderr
    assert found["errors"] == {} and found["compared"] == 5
    assert all(row["integers equal"] for row in found["lengths"])
    assert max(row["largest difference"] for row in found["lengths"]) < 1e-5
    assert {"capture", "export", "simplify", "ship"} <= set(found["rounds"][0]["ours"]["stages"])
    assert {"torch.onnx.export", "onnxsim", "save"} <= set(found["rounds"][0]["plain"]["stages"])
