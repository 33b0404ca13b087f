#!/usr/bin/env python3
"""Make utterances with espeak-ng and sox, and a manifest of them: speeds, voices, noise, gains.

    scripts/make_manifest.py FOLDER --count 500

Needs the Debian packages espeak-ng and sox. Utterance k is the same whatever the count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

WORDS = (
    "good morning the train leaves from platform nine seven minutes late please wait behind the"
    " yellow line a doctor is needed in the second carriage tickets are sold at the desk no"
    " smoking thank you for travelling with us we wish you a pleasant evening"
).split()
VOICES = ("en-gb", "en-us", "de", "es")
SPEEDS = (120, 160, 220)
NOISE_DB = (None, 30, 15)
GAINS_DB = (0, -6, -12)


def utterance(number: int, folder: Path, work: Path) -> dict[str, object]:
    """Make one recording, and say what it is."""
    count = 1 + number * 7 % 12
    first = number * 5 % len(WORDS)
    text = " ".join((WORDS * 2)[first : first + count])
    voice, speed = VOICES[number % 4], SPEEDS[number // 4 % 3]
    noise_db, gain_db = NOISE_DB[number // 12 % 3], GAINS_DB[number // 36 % 3]
    raw, clean, noise = (work / f"{name}.wav" for name in ("raw", "clean", "noise"))
    subprocess.run(["espeak-ng", "-v", voice, "-s", str(speed), "-w", raw, text], check=True)
    sox = ["sox", "-R", "-D"]
    form = ["-r", "16000", "-c", "1", "-b", "16"]
    subprocess.run([*sox, raw, *form, clean, "norm", "-3"], check=True)
    name = f"{number:04d}.wav"
    end = ["gain", str(gain_db)]
    # A recording is never digitally silent: there is always the noise of a quiet room.
    level = 10 ** (-(70 if noise_db is None else noise_db) / 20)
    length = subprocess.run(["soxi", "-D", clean], check=True, capture_output=True, text=True)
    subprocess.run(
        [
            *sox,
            "-n",
            *form,
            noise,
            "synth",
            length.stdout.strip(),
            "whitenoise",
            "vol",
            f"{level:.6f}",
        ],
        check=True,
    )
    subprocess.run([*sox, "-m", clean, noise, *form, folder / name, *end], check=True)
    return {
        "audio": name,
        "text": text,
        "id": f"u{number:04d}",
        "voice": voice,
        "speed": speed,
        "noise": "quiet" if noise_db is None else f"{noise_db} dB",
        "gain_db": gain_db,
    }


def make(folder: Path, count: int) -> Path:
    """Make the recordings and ``manifest.jsonl`` in a folder, and return the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        rows = [utterance(number, folder, Path(work)) for number in range(count)]
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=500)
    given = parser.parse_args()
    print(make(given.folder, given.count))


if __name__ == "__main__":
    main()
