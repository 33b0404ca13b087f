#!/usr/bin/env python3
"""False alarms in simulated stable months, and which of the three questions sees which change.

    scripts/drift_table.py RUN_FOLDER [--work FOLDER] [--write docs/monitor.md]

RUN_FOLDER is that of pipelines/sensevoice_tiny.yaml (its model.onnx answers). Needs the Debian
packages espeak-ng and sox, and a network for the environment of an older onnxruntime. Speech is
espeak-ng's (two English voices, three speeds, three levels of noise) and pieces of golden/audio;
the reference has 120 recordings, 60 others are the stable input, and each degradation is applied to
those 60.

Months: 1,000 of 3,000 recordings each, drawn with replacement from what the undegraded recordings
gave, with a reference of their own that is drawn in the same way.

What is served otherwise (another onnxruntime, another file) is put to all three questions: the
golden of the pipeline is replayed, five recordings go through the shadow worker, and the 60 stable
recordings are answered by it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from exporter.cases.audio import read_waveform
from exporter.monitor.drift import FALSE_ALARMS, Drift, SignalTest, plan_tests
from exporter.monitor.signals import SIGNALS, signals_of
from exporter.runtime import SpeechRunner
from scripts import make_manifest
from scripts.marked_page import write_between
from scripts.served_otherwise import changes_of_serving, feeds_of, shadow_states

ROOT = Path(__file__).resolve().parents[1]
RATE, REFERENCE, LIVE = 16000, 120, 60
STABLE_FIRST = 100
MONTHS, RECORDINGS = 1000, 3000
SHADOWED = 5
BEGIN, END = "<!-- drift -->", "<!-- /drift -->"
Wave = np.ndarray


def speech(work: Path) -> list[Wave]:
    """180 recordings: every third a piece of golden/audio with noise, the others espeak-ng's."""
    folder = work / "speech"
    if not (folder / "manifest.jsonl").exists():
        make_manifest.VOICES = ("en-gb", "en-us", "en-gb", "en-us")
        make_manifest.make(folder, 2 * (REFERENCE + LIVE) // 3)
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    made = [read_waveform(folder / row["audio"], RATE) for row in rows]
    real = np.concatenate(
        [read_waveform(ROOT / "golden/audio" / f"{n}.wav", RATE) for n in ("long", "english")]
    )
    draw, found = np.random.default_rng(0), []
    for number in range(REFERENCE + LIVE):
        if number % 3:
            found.append(made.pop())
            continue
        start = int(draw.integers(0, len(real) - 6 * RATE))
        piece = real[start : start + int(draw.uniform(2, 6) * RATE)]
        gain = 10 ** (draw.uniform(-12, 0) / 20)
        noise = draw.normal(size=len(piece)) * 10 ** (draw.uniform(-70, -50) / 20)
        found.append((gain * piece + noise).astype(np.float32))
    order = draw.permutation(len(found))
    return [found[k] for k in order]


def sox(wave: Wave, *effects: str, out: tuple[str, ...] = ()) -> Wave:
    """A waveform through sox, with 16 kHz on both sides."""
    raw = ["-t", "f32", "-r", str(RATE), "-c", "1"]
    command = ["sox", "-R", "-D", *raw, "-", *raw, *out, "-", *effects]
    done = subprocess.run(command, input=wave.tobytes(), check=True, capture_output=True)
    return np.frombuffer(done.stdout, np.float32)


def codec_8k(wave: Wave) -> Wave:
    """G.711 at 8 kHz behind a header that says 16 kHz of linear samples."""
    low = ["-t", "al", "-r", "8000", "-c", "1", "-"]
    raw = ["-t", "f32", "-r", str(RATE), "-c", "1", "-"]
    coded = subprocess.run(
        ["sox", "-R", "-D", *raw, *low], input=wave.tobytes(), check=True, capture_output=True
    ).stdout
    back = subprocess.run(
        ["sox", "-R", "-D", *low, *raw], input=coded, check=True, capture_output=True
    ).stdout
    return np.frombuffer(back, np.float32)


def hum(wave: Wave) -> Wave:
    return wave + (0.02 * np.sin(2 * np.pi * 50 * np.arange(len(wave)) / RATE)).astype(np.float32)


def packets(wave: Wave) -> Wave:
    """Every tenth packet of 20 ms is lost and filled with zeros."""
    lost = np.random.default_rng(len(wave)).random(len(wave) // 320 + 1) < 0.1
    return np.where(np.repeat(lost, 320)[: len(wave)], np.float32(0), wave)


def wrong_channel(wave: Wave) -> Wave:
    """The other channel of a headset: nobody speaks there, it is heard 40 dB lower."""
    noise = np.random.default_rng(len(wave)).normal(size=len(wave)) * 10 ** (-65 / 20)
    return (0.01 * wave + noise).astype(np.float32)


def mandarin(wave: Wave) -> Wave:
    """Another language at the same level: pieces of golden/audio/mandarin.wav."""
    real = read_waveform(ROOT / "golden/audio/mandarin.wav", RATE)
    start = (len(wave) * 7919) % max(1, len(real) - len(wave))
    piece = np.resize(real[start:], len(wave))
    return (piece * np.sqrt(np.mean(wave**2) / max(np.mean(piece**2), 1e-12))).astype(np.float32)


DEGRADATIONS: dict[str, Callable[[Wave], Wave]] = {
    "8 kHz codec (A-law) behind a 16 kHz header": codec_8k,
    "gain -20 dB": lambda wave: 0.1 * wave,
    "clipping, gain +20 dB": lambda wave: np.clip(10 * wave, -1, 1),
    "resampled with the wrong rate (24 kHz as 16 kHz)": lambda wave: sox(
        wave, "rate", "24000", out=("-r", "24000")
    ),
    "hum of 50 Hz, -34 dB of full scale": hum,
    "dropped packets, 10 % of 20 ms": packets,
    "wrong channel": wrong_channel,
    "other language (Mandarin)": mandarin,
    "DC offset of 0.05": lambda wave: wave + np.float32(0.05),
    "reverberation (sox reverb 80)": lambda wave: sox(wave, "reverb", "80"),
    "dither of one 16-bit step": lambda wave: (
        wave + np.random.default_rng(len(wave)).normal(size=len(wave)) / 32768
    ).astype(np.float32),
}


def rows_of(runner: SpeechRunner, waves: list[Wave]) -> list[dict[str, float]]:
    return [signals_of(wave, RATE, runner.run_arrays(feeds_of(wave))) for wave in waves]


def months(pool: np.ndarray, names: list[str]) -> tuple[int, int]:
    """How many of the simulated months had an alarm, and how many there were."""
    draw = np.random.default_rng(1)
    edges, tests = [], ()
    for _ in range(MONTHS):
        chosen = pool[draw.integers(0, len(pool), REFERENCE)]
        tests = plan_tests(dict(zip(names, chosen.T, strict=True)), SIGNALS)
        edges.append([test.edge for test in tests])
    columns = np.array([names.index(test.name) for test in tests])
    signs, limits = np.array([test.sign for test in tests]), np.array(edges)
    held, ever = Drift(tests, streams=MONTHS), np.zeros(MONTHS, bool)
    for _ in range(RECORDINGS):
        values = pool[draw.integers(0, len(pool), MONTHS)][:, columns]
        held.add_beyond(signs * values > signs * limits)
        ever |= (held.evidence >= held.threshold).any(axis=1)
    return int(ever.sum()), MONTHS


def delay(drift: Drift, rows: list[dict[str, float]], most: int = 600) -> tuple[int | None, str]:
    """Recordings until the first alarm, and the signals that raised it."""
    for count in range(1, most + 1):
        drift.add(rows[(count - 1) % len(rows)])
        if drift.alarms:
            return count, ", ".join(drift.alarms)
    return None, ""


def most_beyond(tests: Sequence[SignalTest], rows: list[dict[str, float]]) -> str:
    """The signal with the largest share of recordings beyond the reference, and that share."""
    beyond = [
        (float(np.mean([not t.sign * row[t.name] <= t.sign * t.edge for row in rows])), t.name)
        for t in tests
    ]
    share, name = max(beyond)
    return f"{name} {share:.0%}"


def table(run_folder: Path, work: Path) -> list[str]:
    waves = speech(work)
    runner = SpeechRunner(run_folder / "model.onnx", threads=1)
    rows = rows_of(runner, waves)
    names = list(rows[0])
    pool = np.array([[row[name] for name in names] for row in rows])
    reference = dict(zip(names, pool[:REFERENCE].T, strict=True))
    tests = plan_tests(reference, SIGNALS)
    found, of = months(pool, names)
    lines = [
        f"{found} of {of:,} simulated stable months of {RECORDINGS:,} recordings had an alarm"
        f" (declared: at most {FALSE_ALARMS:.0%}); {len(tests)} tests, p0 = {tests[0].p0:.3f},"
        f" an alarm from an e-value of {Drift(tests).threshold:,.0f} on.",
        "",
        f"| degradation | recordings until the alarm, after {STABLE_FIRST} stable ones | signals |"
        f" largest share beyond the reference (evidence above {tests[0].p0:.0%}) |",
        "|---|---|---|---|",
    ]
    live = waves[REFERENCE:]
    stable = [rows[REFERENCE + k % LIVE] for k in range(STABLE_FIRST)]
    for name, change in {"none": lambda wave: wave, **DEGRADATIONS}.items():
        drift = Drift(tests)
        for row in stable:
            drift.add(row)
        early = drift.alarms
        changed = rows_of(runner, [change(wave) for wave in live])
        count, signals = delay(drift, changed)
        said = "none in 600" if count is None else str(count)
        cells = ("alarm before" if early else said, signals, most_beyond(tests, changed))
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += ["", "What is served otherwise, put to all three questions:", ""]
    return lines + served_lines(run_folder, work, live, tests, stable)


def served_lines(
    run_folder: Path,
    work: Path,
    live: list[Wave],
    tests: Sequence[SignalTest],
    stable: list[dict[str, float]],
) -> list[str]:
    """What is served otherwise, put to all three questions."""
    lines = [
        "| served | 1: the next replay | 2: five shadow requests | 3: alarm in 600 recordings |",
        "|---|---|---|---|",
    ]
    for name, served in changes_of_serving(run_folder, work):
        found = served.answers(live)
        drift = Drift(tests)
        for row in stable:
            drift.add(row)
        rows = [signals_of(w, RATE, f) for w, f in zip(live, found, strict=True)]
        count, signals = delay(drift, rows)
        alarm = f"none ({most_beyond(tests, rows)})" if count is None else f"{count}: {signals}"
        shadow = shadow_states(run_folder, served.file, live[:SHADOWED], found[:SHADOWED])
        lines.append(f"| {name} | {served.replayed()} | {shadow} | {alarm} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--write", type=Path, help="a page whose table is replaced")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = table(given.run_folder, given.work or Path(folder))
    print("\n".join(lines))
    if given.write is not None:
        write_between(given.write, (BEGIN, END), "\n".join(lines))


if __name__ == "__main__":
    main()
