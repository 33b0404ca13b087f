"""Judged requests that are kept for labelling: of each stratum a random few, and how many it has.

    SPOOL/kept/<letter>-<key>-<request>.npz     0600

**Strata.** A request with a margin among the lowest fifth of those judged before it is of the first
stratum: there errors are found. All others are of the second. Either is decided before anybody has
heard the recording, so whatever is sampled in a stratum by chance stands for that stratum.

**Chance.** A request's key is a digest of its name, which is made of a time and a number and knows
nothing of its audio. Of each stratum those with the smallest keys are kept; in the order of their
keys they are a random sample of the stratum without replacement, however many of them one takes.
``bound`` is the smallest key that ever had to go: below it nothing is missing.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FOLDER, SUFFIX = "kept", ".npz"
LOW, OTHER = "low margin", "other"
LETTERS = {LOW: "a", OTHER: "b"}
"""Strata in the order in which they are labelled; in the names of files."""
LOWEST = 0.2
LAST, LEAST = 500, 20
"""Margins that "before" means, and from how many on there is a lowest fifth."""
MOST_BYTES = 256 << 20
_LAST_KEY = "g"
"""Behind every key, which has the digits 0 to f."""


class Strata:
    """Tells which stratum a request is of, from its margin and from those before it."""

    def __init__(self) -> None:
        self._margins: deque[float] = deque(maxlen=LAST)

    def of(self, margin: object) -> str:
        """The stratum of the next request; ``margin`` is None where the program has none."""
        if not isinstance(margin, int | float) or math.isnan(margin):
            return OTHER
        margins = sorted(self._margins)
        self._margins.append(margin)
        return (
            LOW if len(margins) >= LEAST and margin < margins[int(LOWEST * len(margins))] else OTHER
        )


def no_frame() -> dict[str, Any]:
    """What is known of the strata before the first request; plain values, as they are stored.

    ``recordings`` counts all that were judged, kept or not; ``longest`` is in samples.
    """
    return {
        "recordings": dict.fromkeys(LETTERS, 0),
        "bound": dict.fromkeys(LETTERS, _LAST_KEY),
        "longest": 0,
    }


def is_frame(value: object) -> bool:
    """Whether a file holds what ``no_frame`` began."""
    if not isinstance(value, dict):
        return False
    counts, bounds, longest = (value.get(name) for name in no_frame())
    if not (isinstance(counts, dict) and isinstance(bounds, dict)):
        return False
    numbers = [longest, *(counts.get(name) for name in LETTERS)]
    return all(type(number) is int and 0 <= number < 1 << 62 for number in numbers) and all(
        isinstance(bounds.get(name), str) for name in LETTERS
    )


def key_of(request: str) -> str:
    """Where a request stands in the random order of its stratum."""
    return hashlib.sha256(request.encode()).hexdigest()[:16]


def kept_in(folder: Path, frame: Mapping[str, Any], stratum: str) -> list[Path]:
    """The sample of a stratum, in its random order."""
    head, bound = f"{LETTERS[stratum]}-", frame["bound"][stratum]
    kept = sorted(path for path in folder.glob(f"{head}*{SUFFIX}"))
    return [path for path in kept if path.name[len(head) :] < bound]


def request_of(path: Path) -> str:
    """The name of the request that is kept there."""
    return path.name.removesuffix(SUFFIX).split("-", 2)[2]


class Kept:
    """The folder of a spool in which judged requests are kept.

    Args:
        folder: made when it is needed, for its owner alone.
        most: requests of each stratum; 0 keeps none. most_bytes: of all of them.
    """

    def __init__(self, folder: Path, most: int, most_bytes: int = MOST_BYTES) -> None:
        self.most = most
        self._folder, self._most_bytes = folder, most_bytes

    def clean(self, frame: Mapping[str, Any]) -> None:
        """Take away what a worker left that was ended between a bound and the files beyond it."""
        below = {path for stratum in LETTERS for path in kept_in(self._folder, frame, stratum)}
        for path in self._folder.glob(f"*{SUFFIX}"):
            if path not in below:
                path.unlink()

    def settle(
        self, path: Path, request: str, stratum: str | None, frame: dict[str, Any],
        write: Callable[[], None],
    ) -> None:  # fmt: skip
        """Keep a judged request, or take it away; ``write`` puts ``frame`` on the disk.

        Args:
            stratum: None for a request that is in no stratum.
        """
        key = key_of(request)
        if stratum is None or not self.most or key >= frame["bound"][stratum]:
            path.unlink()
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        os.replace(path, self._folder / f"{LETTERS[stratum]}-{key}-{request}{SUFFIX}")
        gone = self._gone(frame)
        if gone:
            write()  # before they go: what is missing must be known to be
            for old_file in gone:
                old_file.unlink(missing_ok=True)

    def _gone(self, frame: dict[str, Any]) -> list[Path]:
        """What must go, the last in the order first; the bounds in ``frame`` follow."""
        kept = {stratum: kept_in(self._folder, frame, stratum) for stratum in LETTERS}
        gone: list[Path] = []
        while True:
            sizes = sum(path.stat().st_size for paths in kept.values() for path in paths)
            stratum = max(kept, key=lambda name: len(kept[name]))
            paths = kept[stratum]
            if not paths or (len(paths) <= self.most and sizes <= self._most_bytes):
                return gone
            gone.append(paths.pop())
            frame["bound"][stratum] = key_of(request_of(gone[-1]))
