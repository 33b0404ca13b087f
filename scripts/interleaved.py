"""Time several pieces of work side by side in one process, and say on what machine.

Other load on a machine comes and goes within seconds. Rounds in which everybody runs once, and
the median over rounds, give all of them the same share of it.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from exporter.report.environment import describe_environment, usable_cores


def interleaved(
    works: Mapping[str, Callable[[], object]],
    repeats: int,
    prepare: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Run everything once unmeasured, then ``repeats`` rounds; seconds per name and round.

    Args:
        works: what to time, by name.
        repeats: rounds.
        prepare: called before each piece of work, outside of its time.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(repeats + 1):
        for name, work in works.items():
            prepare()
            started = time.perf_counter()
            work()
            took = time.perf_counter() - started
            if number:
                times[name].append(took)
    return times


def median(times: list[float]) -> float:
    """Median, in the unit of ``times``."""
    return statistics.median(times)


def machine(threads: int) -> dict[str, Any]:
    """Processor, memory, load and versions, for the record beside the figures."""
    environment = describe_environment(threads, ("cpu",))
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": threads,
        "memory_gib": _memory_gib(),
        "load_average": _load(),
        "cpu_flags": environment.cpu_flags,
        "python": environment.python,
        "platform": environment.platform,
        "versions": environment.versions,
    }


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal"):
            return round(int(line.split()[1]) / (1 << 20), 1)
    return None


def _load() -> float | None:
    lines = _lines("/proc/loadavg")
    return float(lines[0].split()[0]) if lines else None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
