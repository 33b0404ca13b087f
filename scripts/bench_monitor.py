#!/usr/bin/env python3
"""What a monitor costs a served request, and whether its memory stays where it is.

    scripts/bench_monitor.py RUN_FOLDER [--seconds 150] [--requests 10000]

RUN_FOLDER is that of a run of pipelines/sensevoice_tiny.yaml; its golden is the one that lies in
golden/, the reference is made here. Two monitors are tried: one as it is by default, which looks at
one recording a second at most (what it may look at first is used up before), and one that looks at
every request, which is the most that it can cost.

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
BLOCK, ALONE, ROUNDS = 4, 400, 10
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

    answer = runner.run_arrays(feeds)
    for _ in range(64):
        monitor.served(feeds, answer)
    assert monitor.drain(60)
    pairs: list[dict[bool, tuple[float, float]]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(pairs) < 4:
        order = (True, False) if len(pairs) % 2 else (False, True)
        pairs.append({on: spent(lambda on=on: served(on)) for on in order})
    pairs = pairs[1:]
    audio_s = len(feeds["waveform"]) / RATE
    print(f"  {len(pairs)} pairs of {BLOCK} requests of {audio_s:.1f} s of audio")
    for column, name in enumerate(("wall time", "computing time")):
        print(" ", said(name, [pair[True][column] / pair[False][column] for pair in pairs]))


def alone(runner: SpeechRunner, monitor: Monitor, feeds: dict) -> None:
    """Rounds of requests that are served, and of recordings that only the monitor gets."""
    found, own, plain, waited = runner.run_arrays(feeds), [], [], []

    def given() -> None:
        for _ in range(ALONE // ROUNDS):
            start = time.perf_counter()
            monitor.served(feeds, found)
            waited.append(time.perf_counter() - start)
        assert monitor.drain(60)

    for _ in range(ROUNDS):
        plain.append(spent(lambda: runner.run_arrays(feeds))[1])
        own.append(spent(given)[1] / (ALONE // ROUNDS))
    shares = sorted(100 * mine / request for mine, request in zip(own, plain, strict=True))
    own_ms, request_ms, waited_ms = (1e3 * statistics.median(k) for k in (own, plain, waited))
    print(
        f"  the monitor alone: {own_ms:.2f} ms of computing for a recording, {waited_ms:.3f} ms of"
        f" it in the request's own thread; {statistics.median(shares):.2f} % of a request's"
        f" {request_ms:.1f} ms ({ROUNDS} rounds: {shares[0]:.2f} to {shares[-1]:.2f} %)"
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
        for name, pace in (("one recording a second", 60.0), ("every request", ALL)):
            monitor = Monitor(
                golden,
                port=0,
                spool=Path(folder) / name / "spool",
                log=Path(folder) / "log.jsonl",
                replay_every_s=0,
                signals_per_minute=pace,
            )
            monitor.attach(runner)
            monitor.wait()
            print(f"{name}:")
            if given.seconds:
                cost(runner, monitor, feeds, given.seconds / 2)
            if pace == ALL:
                alone(runner, monitor, feeds)
            if pace == ALL and given.requests:
                memory(runner, monitor, feeds, given.requests)
            monitor.close()


if __name__ == "__main__":
    main()
