#!/usr/bin/env python3
"""What a monitor costs a served request, and whether its memory stays where it is.

    scripts/bench_monitor.py RUN_FOLDER GOLDEN [--pairs 200] [--requests 10000]

GOLDEN has a reference ('monitor record'). Requests with and without a monitor take turns in one
process, each pair in another order; the figure is the ratio of the sums, and the median of the
pairs' ratios. Then many short requests are served, and the growth of the process is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from exporter.cases.audio import read_waveform
from exporter.monitor import Monitor
from exporter.runtime import SpeechRunner

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = {"language": 4, "text_norm": 15}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("golden", type=Path)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--requests", type=int, default=10_000)
    given = parser.parse_args()
    model = given.run_folder / "model.onnx"
    wave = read_waveform(ROOT / "golden/audio/english.wav", 16000)
    with tempfile.TemporaryDirectory() as spool:
        monitor = Monitor(given.golden, port=0, spool=spool, replay_every_s=0)
        watched = SpeechRunner(model, threads=1, monitor=monitor)
        plain = SpeechRunner(model, threads=1)
        monitor.wait()
        spent: dict[bool, list[float]] = {True: [], False: []}
        for number in range(given.pairs + 5):
            for with_monitor in (True, False) if number % 2 else (False, True):
                runner = watched if with_monitor else plain
                start = time.perf_counter()
                runner.run(wave, **PROMPTS)
                if number >= 5:
                    spent[with_monitor].append(time.perf_counter() - start)
        on, off = np.array(spent[True]), np.array(spent[False])
        print(f"{len(wave) / 16000:.1f} s of audio, {given.pairs} pairs: with / without")
        print(f"  sums {on.sum() / off.sum():.4f}, median of pairs {np.median(on / off):.4f}")
        print(f"  medians {1e3 * np.median(on):.2f} ms, {1e3 * np.median(off):.2f} ms")
        process, short = psutil.Process(), wave[:3200]
        for number in range(given.requests):
            watched.run(short, **PROMPTS)
            if number == given.requests // 10:
                before = process.memory_info().rss
        monitor.drain(60)
        grown = (process.memory_info().rss - before) / 2**20
        print(f"{given.requests:,} requests: {grown:+.1f} MiB after the first tenth")
        monitor.close()


if __name__ == "__main__":
    main()
