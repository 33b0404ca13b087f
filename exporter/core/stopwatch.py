"""Where the time of a run goes, by kind of work, without a stopwatch in every signature.

    with collecting() as spent:          {"running models": 12.3, ...}
        with timed(RUNNING): ...

Time inside a nested block counts for the inner kind only, so kinds never add up to more than the
whole. Nothing is measured outside of ``collecting``, nor on other threads than its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

MODULE = "building the module"
FILES = "making or checking files"
SESSIONS = "building sessions"
RUNNING = "running models"
METRICS = "metrics"
REST = "the rest"


@dataclass(slots=True)
class _Watch:
    seconds: dict[str, float] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    since: float = 0.0

    def turn(self) -> None:
        """Give the time since the last turn to the innermost kind."""
        now = time.perf_counter()
        if self.kinds:
            self.add(self.kinds[-1], now - self.since)
        self.since = now

    def add(self, kind: str, seconds: float) -> None:
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds


_CURRENT: ContextVar[_Watch | None] = ContextVar("stopwatch", default=None)


@contextlib.contextmanager
def collecting() -> Iterator[dict[str, float]]:
    """Measure while the block runs; the dict is filled as blocks end, seconds by kind."""
    watch = _Watch()
    token = _CURRENT.set(watch)
    try:
        yield watch.seconds
    finally:
        _CURRENT.reset(token)


@contextlib.contextmanager
def timed(kind: str) -> Iterator[None]:
    """Count the block's time as ``kind``, but for what is timed inside of it."""
    watch = _CURRENT.get()
    if watch is None:
        yield
        return
    watch.turn()
    watch.kinds.append(kind)
    try:
        yield
    finally:
        watch.turn()
        watch.kinds.pop()


def spent(kind: str, seconds: float) -> None:
    """Count seconds that were measured elsewhere, outside of every ``timed`` block."""
    watch = _CURRENT.get()
    if watch is not None:
        watch.add(kind, seconds)


def breakdown(seconds: dict[str, float], total: float) -> dict[str, float]:
    """Seconds by kind in the order of a run, what is left of ``total`` as "the rest"."""
    kinds = (MODULE, FILES, SESSIONS, RUNNING, METRICS)
    known = {kind: seconds[kind] for kind in kinds if kind in seconds}
    return {**known, REST: max(0.0, total - sum(known.values()))}
