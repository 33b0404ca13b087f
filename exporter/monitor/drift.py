"""Has the input moved? Anytime-valid tests of every signal against a fixed reference.

**The event.** Of each signal and direction: a recording lies beyond the reference's 90 % point by
more than the least move that is worth an alarm (``Signal.least``: the size). The reference has
``n`` recordings; beyond its k-th smallest value lies a share of all recordings that is
Beta(n - k + 1, k) distributed, whatever the distribution (exact for continuous values; ties make
the share smaller). ``p0`` is that share's upper bound, so what a small reference does not know is
in the bound and not in an alarm.

**The evidence.** With b = 1 for a recording beyond and 0 for one inside, and 0 <= bet <= 1 / p0,

    1 + bet (b - p0)                has a mean of at most 1 while a stable input lasts

so products of such factors are e-processes: they reach 1 / a with a probability of at most a,
however often one looks (Ville). The mean of several bets is one again, and so is the mean over the
recording at which one begins to bet, with weights 1 / (t (t + 1)): evidence is not lost in a long
stable time before the move. One recursion does both:

    wealth <- (wealth + weight(t)) (1 + bet (b - p0))

**The rate.** ``false_alarms`` is the probability of any alarm in the whole life of a service whose
input does not move: half of it is for the bounds ``p0``, half for the evidence, shared evenly among
all tests. Recordings are taken to be exchangeable with those of the reference: whoever records the
reference at night has none for the day.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.core.errors import UserInputError
from exporter.monitor.signals import Signal

FALSE_ALARMS = 0.01
LEAST_RECORDINGS = 20
LEVEL = 0.9
"""Beyond this point of the reference a recording counts as beyond it."""
BETS = (0.1, 0.25, 0.5, 0.75, 0.95)
"""Shares of the largest bet, 1 / p0."""
_HIGHEST = 100.0
"""Evidence is kept below so many thresholds: it must be gone soon after the move has gone."""
LAST = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalTest:
    """One signal in one direction.

    Attributes:
        sign: 1 for above, -1 for below. edge: in the signal's unit, the size included.
        p0: share of a stable input's recordings that may lie beyond, at most.
    """

    name: str
    sign: int
    edge: float
    p0: float


def plan_tests(
    reference: Mapping[str, np.ndarray],
    signals: Sequence[Signal],
    false_alarms: float = FALSE_ALARMS,
) -> tuple[SignalTest, ...]:
    """The tests that a reference allows.

    Raises:
        UserInputError: it has fewer than 20 recordings, or a rate is none.
    """
    if not 0 < false_alarms < 1:
        raise UserInputError(
            f"false_alarms is {false_alarms}", remedy="give a probability, for example 0.01"
        )
    measured = [signal for signal in signals if signal.name in reference]
    sides = [(s, sign) for s in measured for sign in (1, -1) if (s.above if sign > 0 else s.below)]
    tests = []
    for signal, sign in sides:
        values = np.sort(sign * reference[signal.name])
        if len(values) < LEAST_RECORDINGS:
            raise UserInputError(
                f"the reference has {len(values)} recordings",
                remedy=f"drift is told from {LEAST_RECORDINGS} on; a hundred tell it sooner",
            )
        if not np.isfinite(values).all():
            raise UserInputError(
                f"the reference holds a '{signal.name}' that is no number",
                remedy="record it again",
            )
        rank = math.ceil(LEVEL * len(values))
        tests.append(
            SignalTest(
                name=signal.name,
                sign=sign,
                edge=float(sign * values[rank - 1] + sign * signal.least),
                p0=share_bound(len(values), rank, false_alarms / (2 * len(sides))),
            )
        )
    return tuple(tests)


def share_bound(count: int, rank: int, risk: float) -> float:
    """Largest share that may lie beyond the ``rank``-th smallest of ``count`` values.

    The upper ``risk`` point of Beta(count - rank + 1, rank), which is where a binomial variable of
    ``count`` draws stays at or below ``count - rank`` with a probability of ``risk``.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(count - rank, count, middle) > risk:
            low = middle
        else:
            high = middle
    return high


def _at_most(most: int, count: int, share: float) -> float:
    """P(Binomial(count, share) <= most)."""
    if share <= 0 or share >= 1:
        return float(share <= 0)
    logs = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(share)
        + (count - k) * math.log1p(-share)
        for k in range(most + 1)
    ]
    return math.fsum(math.exp(value) for value in logs)


class Drift:
    """Evidence of all tests, one recording after the other. Holds numbers only.

    Args:
        tests: of ``plan_tests``. false_alarms: the same as there.
        streams: how many inputs are followed at once, for simulations.
    """

    def __init__(
        self, tests: Sequence[SignalTest], false_alarms: float = FALSE_ALARMS, *, streams: int = 1
    ):
        self.tests = tuple(tests)
        self.threshold = 2 * len(tests) / false_alarms if tests else math.inf
        self.count = 0
        self._sign = np.array([test.sign for test in tests], np.float64)
        self._edge = np.array([test.sign * test.edge for test in tests], np.float64)
        p0 = np.array([test.p0 for test in tests], np.float64).reshape(-1, 1)
        bets = np.array(BETS) / p0 if tests else np.zeros((0, len(BETS)))
        self._beyond, self._inside = 1 + bets * (1 - p0), 1 - bets * p0
        self._wealth = np.zeros((streams, len(self.tests), len(BETS)))
        self._last: deque[np.ndarray] = deque(maxlen=LAST)

    def add(self, recording: Mapping[str, float]) -> None:
        """Take one recording; a signal that is missing or no number counts as beyond."""
        values = [recording.get(test.name, math.nan) for test in self.tests]
        self.add_values(np.array([values], np.float64))

    def add_values(self, values: np.ndarray) -> None:
        """The same of ``[streams, tests]`` numbers."""
        # Not "beyond": a NaN must be neither inside nor left out.
        beyond = ~(self._sign * values <= self._edge)
        self.add_beyond(beyond)
        self._last.append(beyond)

    def add_beyond(self, beyond: np.ndarray) -> None:
        """The same of ``[streams, tests]`` answers."""
        self.count += 1
        weight = 1 / (self.count * (self.count + 1))
        factors = np.where(beyond[..., None], self._beyond, self._inside)
        self._wealth = np.minimum((self._wealth + weight) * factors, _HIGHEST * self.threshold)

    @property
    def evidence(self) -> np.ndarray:
        """``[streams, tests]`` e-values."""
        return self._wealth.mean(axis=-1)

    @property
    def evalues(self) -> dict[str, float]:
        """Of each signal, the larger of its directions; of the first stream."""
        evalues_by_name: dict[str, float] = {}
        for test, value in zip(self.tests, self.evidence[0], strict=True):
            evalues_by_name[test.name] = max(evalues_by_name.get(test.name, 0.0), float(value))
        return evalues_by_name

    @property
    def alarms(self) -> tuple[str, ...]:
        """Signals whose evidence is enough."""
        return tuple(name for name, value in self.evalues.items() if value >= self.threshold)

    @property
    def shares(self) -> dict[str, float]:
        """Of each signal, which share of the last recordings lay beyond, in its worse direction."""
        shares_by_name: dict[str, float] = {}
        last = list(self._last)  # another thread may add one meanwhile
        if last:
            means = np.mean([beyond[0] for beyond in last], axis=0)
            for test, value in zip(self.tests, means, strict=True):
                shares_by_name[test.name] = max(shares_by_name.get(test.name, 0.0), float(value))
        return shares_by_name
