#!/usr/bin/env python3
"""What a monitor costs a served request, and whether its memory stays where it is.

    scripts/bench_monitor.py RUN_FOLDER [--seconds 150] [--requests 10000]

RUN_FOLDER is that of a run of pipelines/sensevoice_tiny.yaml; its golden is the one that lies in
golden/, the reference is made here. Every request is looked at, which a monitor does at most once a
second by default.

1. Blocks of four requests with and without a monitor take turns in one process, on one session,
   each pair in the other order; a block ends when the monitor has done its work. Printed are wall
   time and computing time (all threads of the process) of a block with over one without, each the
   geometric mean of all pairs with a 95 % interval from their spread, and the median.
2. Recordings are given to the monitor alone, many times: its computing time for one, over that of a
   request. What 1 drowns in noise this measures to some per cent of itself.
3. With ``--requests`` so many short requests are served; the resident memory is printed ten times.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from exporter.cases.audio import read_waveform
from exporter.config.load import load_pipeline
from exporter.flows.monitor import record
from exporter.monitor import Monitor
from exporter.runtime import SpeechRunner

ROOT = Path(__file__).resolve().parents[1]
NAME, RATE = "sensevoice_tiny", 16000
BLOCK, ALONE = 4, 400
ALL = 1e9


def golden_with_reference(folder: Path, runner: SpeechRunner) -> Path:
    """A copy of the golden with a reference: pieces of golden/audio/long.wav."""
    golden = folder / NAME
    shutil.copytree(ROOT / "golden" / NAME, golden)
    long = read_waveform(ROOT / "golden/audio/long.wav", RATE)
    sounds = []
    for number in range(24):
        sounds.append(folder / f"{number}.wav")
        piece = long[(number * 2 * RATE) % (len(long) - 3 * RATE) :][: 3 * RATE]
        soundfile.write(sounds[-1], piece, RATE, subtype="FLOAT")
    pipeline = load_pipeline(ROOT / "pipelines" / f"{NAME}.yaml")
    record(pipeline, golden, None, recordings=sounds, answers=runner.run_arrays)
    return golden


def spent(work: Callable[[], None]) -> tuple[float, float]:
    """Wall time and computing time, in s."""
    wall, computing = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - computing


def said(name: str, ratios: list[float]) -> str:
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    half = 1.96 * statistics.stdev(logs) / math.sqrt(len(logs))
    low, middle, high = (100 * math.expm1(mean + k * half) for k in (-1, 0, 1))
    median = 100 * (statistics.median(ratios) - 1)
    return f"{name}: {middle:+.2f} % (95 %: {low:+.2f} to {high:+.2f} %), median {median:+.2f} %"


def cost(runner: SpeechRunner, monitor: Monitor, feeds: dict, seconds: float) -> None:
    def served(with_monitor: bool) -> None:
        for _ in range(BLOCK):
            found = runner.run_arrays(feeds)
            if with_monitor:
                monitor.served(feeds, found)
        if with_monitor:
            assert monitor.drain(60)

    pairs: list[dict[bool, tuple[float, float]]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(pairs) < 4:
        order = (True, False) if len(pairs) % 2 else (False, True)
        pairs.append({on: spent(lambda on=on: served(on)) for on in order})
    pairs = pairs[1:]
    request = statistics.median(pair[False][1] for pair in pairs) / BLOCK
    print(f"{len(feeds['waveform']) / RATE:.1f} s of audio, {len(pairs)} pairs of {BLOCK} requests")
    for column, name in enumerate(("wall time", "computing time")):
        print(" ", said(name, [pair[True][column] / pair[False][column] for pair in pairs]))
    found, own, waited = runner.run_arrays(feeds), [], []
    for _ in range(10):

        def alone() -> None:
            for _ in range(ALONE // 10):
                start = time.perf_counter()
                monitor.served(feeds, found)
                waited.append(time.perf_counter() - start)
            assert monitor.drain(60)

        own.append(spent(alone)[1] / (ALONE // 10))
    parts = (statistics.median(own), min(own), max(own))
    middle, low, high = (100 * part / request for part in parts)
    print(
        f"  the monitor alone: {1e3 * parts[0]:.2f} ms of computing for a recording, {middle:.2f} %"
        f" (ten rounds: {low:.2f} to {high:.2f} %) of the {1e3 * request:.1f} ms of a request;"
        f" the request's own thread has {1e3 * statistics.median(waited):.3f} ms of it"
    )


def memory(runner: SpeechRunner, monitor: Monitor, feeds: dict, requests: int) -> None:
    process = psutil.Process()
    short = feeds | {"waveform": feeds["waveform"][: RATE // 5].copy()}
    held = []
    for number in range(1, requests + 1):
        monitor.served(short, runner.run_arrays(short))
        if number % (requests // 10) == 0:
            monitor.drain(60)
            held.append(process.memory_info().rss / 2**20)
    print(
        f"{requests:,} requests, MiB resident after each tenth:",
        *(f"{held_:.1f}" for held_ in held),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--seconds", type=float, default=150.0, help="for the pairs")
    parser.add_argument("--requests", type=int, default=0, help="for the memory; 10 or more")
    given = parser.parse_args()
    wave = read_waveform(ROOT / "golden/audio/english.wav", RATE)
    feeds = {"waveform": wave, "language": np.array(4), "text_norm": np.array(15)}
    with tempfile.TemporaryDirectory() as folder:
        runner = SpeechRunner(given.run_folder / "model.onnx", threads=1)
        golden = golden_with_reference(Path(folder), runner)
        spool, log = Path(folder) / "spool", Path(folder) / "log.jsonl"
        monitor = Monitor(
            golden, port=0, spool=spool, log=log, replay_every_s=0, signals_per_minute=ALL
        )
        monitor.attach(runner)
        monitor.wait()
        if given.seconds:
            cost(runner, monitor, feeds, given.seconds)
        if given.requests:
            memory(runner, monitor, feeds, given.requests)
        monitor.close()


if __name__ == "__main__":
    main()
