"""``kill -9`` at random moments: nothing half-written is believed, and the next run works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path: Path):
    """A few of those that ``scripts/fuzz_kills.py`` tries."""
    command = [sys.executable, "scripts/fuzz_kills.py", "--seed", "7", "--count", "5"]
    done = subprocess.run(
        [*command, "--seconds", "60", "--folder", str(tmp_path)],
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
