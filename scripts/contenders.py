"""Processes that are told to run one at a time, round by round, and tables of what they took."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

WORKER = Path(__file__).with_name("contender.py")


@dataclass(slots=True, kw_only=True)
class Worker:
    """A contender's process.

    Attributes:
        name: of the contender. process: its process.
        loaded_s: seconds that loading took. peak_mb: most memory that it has held.
        seconds: of every measured run. found: what its last run found.
    """

    name: str
    process: subprocess.Popen[str]
    loaded_s: float = 0.0
    peak_mb: float = 0.0
    seconds: list[float] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)

    def run(self, waveform: Path, *, measured: bool) -> None:
        """Run once on a waveform and note what it says.

        Raises:
            RuntimeError: the process has ended.
        """
        self._pipe(self.process.stdin).write(f"{waveform}\n")
        self._pipe(self.process.stdin).flush()
        answer = self.answer()
        took = answer.pop("seconds")
        self.peak_mb = answer.pop("peak_mb")
        self.found = answer
        if measured:
            self.seconds.append(took)

    def answer(self) -> dict[str, Any]:
        """The next line that it says."""
        line = self._pipe(self.process.stdout).readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self.process.wait()}")
        return json.loads(line)

    @staticmethod
    def _pipe(stream: IO[str] | None) -> IO[str]:
        if stream is None:
            raise RuntimeError("the process was started without pipes")
        return stream


@contextlib.contextmanager
def started(
    names: list[str], settings: Mapping[str, Any], folder: Path, python: str = sys.executable
) -> Iterator[list[Worker]]:
    """Start a process per contender, one after the other; they end with the block.

    Args:
        names: keys of ``contender.CONTENDERS``.
        settings: what they read, written to ``folder``.
        python: of the environment that they are in.
    """
    path = folder / f"settings-{'-'.join(names)}.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    workers: list[Worker] = []
    try:
        for name in names:
            process = subprocess.Popen(
                [python, str(WORKER), name, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            worker = Worker(name=name, process=process)
            workers.append(worker)
            answer = worker.answer()
            worker.loaded_s, worker.peak_mb = answer["loaded_s"], answer["peak_mb"]
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.communicate()


def rounds(
    workers: list[Worker], waveform: Path, repeats: int, warm_up: Path | None = None
) -> None:
    """Everybody once unmeasured, then ``repeats`` rounds in which everybody runs once.

    Other load on a machine comes and goes within seconds; so all have the same share of it.

    Args:
        warm_up: of the unmeasured round; None: the same waveform.
    """
    for number in range(repeats + 1):
        for worker in workers:
            worker.run(waveform if number else warm_up or waveform, measured=number > 0)


def rows(workers: list[Worker], audio_seconds: float, threads: int) -> list[dict[str, Any]]:
    """A row per contender; ``times_as_long`` is over the first of them."""
    base = statistics.median(workers[0].seconds)
    found = []
    for worker in workers:
        median = statistics.median(worker.seconds)
        found.append(
            {
                "name": worker.name,
                "audio_s": round(audio_seconds, 2),
                "threads": threads,
                "median_s": round(median, 5),
                "real_time_factor": round(median / audio_seconds, 5),
                "times_as_long": round(median / base, 3),
                "peak_mb": worker.peak_mb,
                "loaded_s": worker.loaded_s,
                "all_s": worker.seconds,
            }
        )
    return found


def markdown(found: list[dict[str, Any]], titles: Mapping[str, str]) -> str:
    """Rows as a table."""
    lines = [
        "| | audio, s | threads | median, s | real-time factor | times as long | peak, MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {titles[row['name']]} | {row['audio_s']:g} | {row['threads']} | {row['median_s']:.4g}"
        f" | {row['real_time_factor']:.4g} | {row['times_as_long']:.3g} | {row['peak_mb']:.0f} |"
        for row in found
    ]
    return "\n".join(lines)
