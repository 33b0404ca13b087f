"""How often something is done at most, whatever the requests do."""

from __future__ import annotations

import threading
import time


class Pace:
    """Lets at most ``rate`` requests a second through, and never more than a few at once.

    Args:
        rate: 0 lets none through.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        # A minute's worth may come at once, as requests do; one may always.
        self._most = max(1.0, 60 * rate)
        self._left = self._most
        self._then = time.monotonic()
        self._lock = threading.Lock()

    def due(self) -> bool:
        """True for a request that is let through."""
        if not self._rate:
            return False
        with self._lock:
            now = time.monotonic()
            self._left = min(self._most, self._left + (now - self._then) * self._rate)
            self._then = now
            if self._left < 1:
                return False
            self._left -= 1
            return True
