"""What the shipped file takes, in words: one line for each deployment."""

from __future__ import annotations

from exporter.report.safe_text import printable, size
from exporter.report.schema import LatencyRecord, Report


def latency_lines(report: Report) -> list[str]:
    """Time, real-time factor and memory; the first line says what of."""
    return [_line(record) for record in report.latency]


def _line(record: LatencyRecord) -> str:
    audio = record.audio_seconds
    factor = f" (real-time factor {record.seconds / audio:.3g})" if audio else ""
    memory = "" if record.memory_bytes is None else f", {size(record.memory_bytes)} of memory"
    rounds = "1 round" if record.rounds == 1 else f"median of {record.rounds} rounds in turns"
    where, case = printable(record.deployment), printable(record.case)
    loaded = f"loaded in {_time(record.load_seconds)}{memory}"
    return f"{where}: {_time(record.seconds)}{factor} for '{case}', {rounds}; {loaded}"


def _time(taken: float) -> str:
    return f"{1000 * taken:.3g} ms" if taken < 1 else f"{taken:.3g} s"
