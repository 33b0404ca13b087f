"""Requests on their way from the service to the monitor's thread: bounded in number and bytes."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from exporter.core.tensors import Arrays

MOST_REQUESTS = 64
MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Copies of what went in and came out; the service may do what it likes with its own.

    ``wanted``: for signals, for the shadow worker.
    """

    inputs: Arrays
    outputs: Arrays
    wanted: tuple[bool, bool]


class WaitingRequests:
    """A queue that never makes its writer wait."""

    def __init__(self, most: int = MOST_REQUESTS, most_bytes: int = MOST_BYTES) -> None:
        self._items: deque[tuple[Served, int]] = deque()
        self._most, self._most_bytes, self._bytes = most, most_bytes, 0
        self._changed = threading.Condition()
        self._busy = False

    def put(self, inputs: Arrays, outputs: Arrays, wanted: tuple[bool, bool]) -> bool:
        """Copy a request in; False when there is no room for it."""
        size = sum(value.nbytes for arrays in (inputs, outputs) for value in arrays.values())
        with self._changed:
            if len(self._items) >= self._most or self._bytes + size > self._most_bytes:
                return False
            self._bytes += size  # taken before the copy, which nobody else should wait for
        try:
            item = Served(
                inputs={name: np.array(value) for name, value in inputs.items()},
                outputs={name: np.array(value) for name, value in outputs.items()},
                wanted=wanted,
            )
        except MemoryError:
            with self._changed:
                self._bytes -= size
            return False
        with self._changed:
            self._items.append((item, size))
            self._changed.notify_all()
        return True

    def get(self, timeout_s: float) -> Served | None:
        """The next one; None when none came in time. Whoever asks again is done with the last."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: bool(self._items), timeout_s):
                return None
            item, size = self._items.popleft()
            self._bytes -= size
            self._busy = True
            return item

    def drain(self, timeout_s: float) -> bool:
        """Wait until all that was put in is done; False when it was not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._items and not self._busy, timeout_s)
