#!/usr/bin/env python3
"""What a manifest costs in one process and in several, and that a kill loses nothing.

    scripts/manifest_cost.py SYSTEM.yaml MANIFEST.jsonl --jobs 1 2 [--kill-at 215]

Every run has a folder of its own. The time is that between the first result and the last; the
memory is the largest resident set of the process and of each that it starts, looked at ten times a
second, and that of all of them together at a fifth of the results and at the last. With
``--kill-at`` a run is ended by SIGKILL at that many results and begun again. Exits 1 where a result
is missing, doubled, or another one than in the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
LOOK_SECONDS = 0.1


class Watched:
    """One run of the command, looked at until it ends or has so many results."""

    def __init__(self, system: Path, manifest: Path, folder: Path, jobs: int):
        command = [
            sys.executable,
            "-m",
            "exporter",
            "run",
            str(system),
            "--manifest",
            str(manifest),
        ]
        command += ["--jobs", str(jobs), "--output-dir", str(folder), "--trust", "--quiet"]
        where = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._run = subprocess.Popen(command, env=where, stdout=subprocess.DEVNULL)
        self._rows = folder / "manifest.jsonl"
        self.megabytes: dict[str, float] = {}
        self.times: list[tuple[float, int]] = []
        self.together: list[float] = []  # MB of all processes, beside ``times``

    def until(self, count: int | None = None) -> int | None:
        """Look until so many results lie there, or to the end; the exit code, None without one."""
        while (code := self._run.poll()) is None:
            self._look()
            if count is not None and self.times[-1][1] >= count:
                self._run.kill()
                self._run.wait()
                return None
            time.sleep(LOOK_SECONDS)
        self._look()
        return code

    def _look(self) -> None:
        whole = self._rows.read_bytes().count(b"\n") - 1 if self._rows.is_file() else 0
        self.times.append((time.monotonic(), max(whole, 0)))
        self.together.append(0.0)
        for process in _and_children(self._run.pid):
            try:
                size = process.memory_info().rss / 1e6
                name = "parent" if process.pid == self._run.pid else f"worker {process.pid}"
            except psutil.NoSuchProcess:
                continue
            self.megabytes[name] = max(size, self.megabytes.get(name, 0.0))
            self.together[-1] += size

    def held_at(self, count: int) -> float:
        """MB of all processes when so many results lay there, the most that was seen then."""
        seen = [held for (_, n), held in zip(self.times, self.together, strict=True) if n >= count]
        return max(seen[:20], default=0.0)

    def rate(self) -> float:
        """Results a second, between the first and the last."""
        began = self.times[0][1]
        work = [(at, count) for at, count in self.times if count > began]
        changes = [held for n, held in enumerate(work) if n == 0 or held[1] != work[n - 1][1]]
        if len(changes) < 2:
            return 0.0
        (first, few), (last, many) = changes[0], changes[-1]
        return (many - few) / (last - first)


def _and_children(number: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(number)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def results(path: Path) -> dict[int, list[Any]]:
    """What is known of every line: all whole results of it, in order."""
    found: dict[int, list[Any]] = {}
    lines = path.read_bytes().split(b"\n")[1:-1] if path.is_file() else []
    for line in lines:
        row = json.loads(line)
        found.setdefault(row["number"], []).append((row["verdict"], row["tokens"]))
    return found


def main() -> int:
    """Measure, and say what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("system", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kill-at", type=int)
    given = parser.parse_args()
    lines = len(given.manifest.read_text(encoding="utf-8").splitlines())
    first: dict[int, list[Any]] | None = None
    good = True
    with tempfile.TemporaryDirectory() as work:
        for jobs in given.jobs:
            folder = Path(work) / str(jobs)
            begun = 0
            if given.kill_at is not None:
                begun = given.kill_at
                Watched(given.system, given.manifest, folder, jobs).until(given.kill_at)
                print(f"--jobs {jobs}: killed at {len(results(folder / 'manifest.jsonl'))} results")
            run = Watched(given.system, given.manifest, folder, jobs)
            code = run.until()
            found = results(folder / "manifest.jsonl")
            verdicts = [held[0][0] for held in found.values()]
            counts = {word: verdicts.count(word) for word in sorted(set(verdicts))}
            doubled = sum(len(held) > 1 for held in found.values())
            first = first or found
            good &= len(found) == lines and not doubled and found == first
            sizes = ", ".join(f"{name} {size:.0f} MB" for name, size in run.megabytes.items())
            early, late = run.held_at(begun + (lines - begun) // 5), run.held_at(lines - 1)
            sizes += f"; together {early:.0f} MB at a fifth, {late:.0f} MB at the end"
            print(
                f"--jobs {jobs}: exit {code}, {len(found)} of {lines} lines, {doubled} doubled,"
                f" {counts}, {run.rate():.2f} a second, {sizes}",
                flush=True,
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
