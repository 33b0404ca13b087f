"""What the shipped file takes, in words: one line for each deployment."""

from __future__ import annotations

from exporter.report.safe_text import printable, size
from exporter.report.schema import LatencyRecord, Report


def latency_lines(report: Report) -> list[str]:
    """Time, real-time factor and memory; the first line says what of."""
    return [_line(held) for held in report.latency]


def _line(held: LatencyRecord) -> str:
    audio = held.audio_seconds
    factor = f" (real-time factor {held.seconds / audio:.3g})" if audio else ""
    memory = "" if held.memory_bytes is None else f", {size(held.memory_bytes)} of memory"
    rounds = "1 round" if held.rounds == 1 else f"median of {held.rounds} rounds in turns"
    where, case = printable(held.deployment), printable(held.case)
    loaded = f"loaded in {_time(held.load_seconds)}{memory}"
    return f"{where}: {_time(held.seconds)}{factor} for '{case}', {rounds}; {loaded}"


def _time(taken: float) -> str:
    return f"{1000 * taken:.3g} ms" if taken < 1 else f"{taken:.3g} s"
