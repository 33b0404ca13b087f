"""``kill -9`` at random moments: nothing half-written is believed, and the next run works."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path: Path):
    """A few of those that ``scripts/fuzz_kills.py`` tries."""
    command = [sys.executable, "scripts/fuzz_kills.py", "--seed", "7", "--count", "5"]
    done = subprocess.run(
        [*command, "--seconds", "150", "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 problems" in done.stdout


def test_what_is_half_written_is_seen(tmp_path: Path):
    """The sweep itself can fail: a golden, an entry and a report that are cut off."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from fuzz_kills import Place, half_believed
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    place = Place(root=tmp_path)
    assert not half_believed(place)
    for path in (
        place.out / "report.json",
        place.out / "model.onnx",
        place.golden / "silero_vad_tiny" / "manifest.json",
        place.cache / "entries" / ("0" * 64) / "manifest.json",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
    assert len(half_believed(place)) == 4


@pytest.mark.parametrize(
    ("round_", "code"), [((1, []), 0), ((0, []), 1), ((1, ["ended by itself with exit 3"]), 1)]
)
def test_a_sweep_that_killed_nothing_or_saw_an_error_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, round_: tuple[int, list[str]], code: int
):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import fuzz_kills

    monkeypatch.setattr(fuzz_kills, "prepare", lambda place: 1.0)
    monkeypatch.setattr(fuzz_kills, "whole", lambda kind, place: "")
    monkeypatch.setattr(fuzz_kills, "kill_one", lambda *_: (round_[0], list(round_[1])))
    given = Namespace(seed=0, count=1, seconds=0.0, failed=None)
    assert fuzz_kills.sweep(fuzz_kills.Place(root=tmp_path), given) == code
