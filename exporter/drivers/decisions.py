"""Every choice of a driver goes through here, so that it can be repeated and weighed.

Two sides that choose differently are compared at the first choice that differs. Up to there both
had made the same ones, so the float64 graphs, led along the same choices, say how far apart the
two candidates really are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from exporter.core.errors import ConfigError
from exporter.drivers.graph import DriverStoppedError

Chosen = tuple[int, ...]


class Decider:
    """Chooses the best of candidates, and remembers what was chosen.

    Args:
        led: choices by their number, which are taken whatever the scores say.
        watched: number of the choice whose scores are kept; None: of no choice.

    Attributes:
        made: what was chosen, in order.
        places: what each choice was about, for people. graphs: whose scores it was made on.
        scores: of the watched choice, [candidates] float64; None until it was made.
    """

    def __init__(
        self, led: Mapping[int, Chosen] | Sequence[Chosen] = (), watched: int | None = None
    ) -> None:
        self._led = led if isinstance(led, Mapping) else dict(enumerate(led))
        self._watched = watched
        self.made: list[Chosen] = []
        self.places: list[tuple[str, int]] = []
        self.graphs: list[str] = []
        self.scores: np.ndarray | None = None

    def choose(self, scores: np.ndarray, *, of: str, what: str, at: int, count: int = 1) -> Chosen:
        """The best candidates, best first; equal ones in their order.

        Args:
            scores: [candidates]; -inf: cannot be chosen.
            of: the graph that gave them.
            what, at: "token" 3, "frame" 12.
            count: how many are wanted; fewer are returned where no more can be chosen.

        Raises:
            DriverStoppedError: a score is NaN or +inf, or no candidate can be chosen.
        """
        if np.isnan(scores).any() or np.isposinf(scores).any():
            raise DriverStoppedError(f"a score of {what} {at} is NaN or +Inf", graph=of)
        number = len(self.made)
        if number == self._watched:
            self.scores = np.array(scores, dtype=np.float64)
        chosen = self._led.get(number)
        if chosen is None:
            chosen = _best(scores, count)
        if not chosen:
            raise DriverStoppedError(f"no candidate of {what} {at} can be chosen", graph=of)
        self.made.append(chosen)
        self.places.append((what, at))
        self.graphs.append(of)
        return chosen


def _best(scores: np.ndarray, count: int) -> Chosen:
    if count == 1:
        best = int(scores.argmax())
        return (best,) if scores[best] > -np.inf else ()
    order = np.argsort(-scores, kind="stable")[:count]
    return tuple(int(index) for index in order if scores[index] > -np.inf)


def check_tokens(ids: Sequence[int], vocabulary: int, key: str) -> None:
    """Hold token ids that the YAML names against the scores that came.

    Raises:
        ConfigError: there is no such token.
    """
    if ids and max(ids) >= vocabulary:
        raise ConfigError(
            f"there is no token {max(ids)}: {vocabulary} have scores",
            where=f"driver.{key}",
            remedy=f"name tokens from 0 to {vocabulary - 1}",
        )


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64; -inf stays what it is."""
    wide = np.asarray(scores, dtype=np.float64)
    peak = wide.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        moved = wide - peak
    return moved - np.log(np.exp(moved).sum(axis=-1, keepdims=True))
