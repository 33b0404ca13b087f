"""Labels to a word error rate that may be looked at after every label.

    {"id": ..., "stratum": "low margin" | "random", "hypothesis": ..., "reference": ...}

Labels are of two strata, which whoever labels has drawn: recordings with low margins (``margin`` in
a worker's results), where errors are found, and random ones. The rate is taken from the random ones
alone, which stand for all.

**The confidence sequence.** For a rate t, the errors of a recording less t times its words have a
mean of 0 if t is the rate. Each is bounded, so products of 1 + bet (errors - t words) are
e-processes for every t, and all t whose product has never reached 1 / a are a confidence sequence:
the rate is in it at all times at once with a probability of 1 - a (betting, Waudby-Smith and Ramdas
2024). Recordings count with at most ``MOST_WORDS`` words and as many errors, which is said where it
cuts something off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.core.errors import UserInputError
from exporter.core.reading import Door

DOOR = Door(
    error=UserInputError,
    says="not labels",
    remedy='give JSON lines: {"stratum": "random", "hypothesis": "...", "reference": "..."}',
)
RANDOM, LOW = "random", "low margin"
MOST_WORDS = 100
RISK = 0.05
_GRID = np.linspace(0, 1, 401)
_BETS = (0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class WordErrors:
    """A rate with its confidence sequence; ``cut`` recordings were longer than counted."""

    errors: int
    words: int
    recordings: int
    low: float
    high: float
    cut: int

    def sentence(self) -> str:
        """For people."""
        cut = f"; {self.cut} counted with {MOST_WORDS} words only" if self.cut else ""
        rate = 100 * self.errors / max(1, self.words)
        return (
            f"{rate:.1f} % ({self.errors} of {self.words} words in {self.recordings} random"
            f" recordings), with {100 * (1 - RISK):.0f} % confidence at all times"
            f" {100 * self.low:.1f} to {100 * self.high:.1f} %{cut}"
        )


def word_errors(labels: Path) -> WordErrors:
    """The word error rate of the random stratum.

    Raises:
        UserInputError: a line is no label, or no random recording is labelled.
    """
    import jiwer

    counts = []
    for number, line in enumerate(DOOR.text(labels).splitlines(), 1):
        if not line.strip():
            continue
        row = DOOR.json_of(line.encode(), labels)
        if not isinstance(row, dict) or not {"stratum", "hypothesis", "reference"} <= row.keys():
            raise DOOR.bad(f"{labels}:{number}", "stratum, hypothesis and reference are needed")
        if row["stratum"] != RANDOM or row["reference"] is None:
            continue
        reference, hypothesis = str(row["reference"]).split(), str(row["hypothesis"]).split()
        counts.append((_edits(jiwer, reference, hypothesis), len(reference)))
    if not counts:
        raise DOOR.bad(labels, "no random recording has a reference")
    return rate_of(counts)


def _edits(jiwer: object, reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    if not reference or not hypothesis:
        return len(reference) + len(hypothesis)
    found = jiwer.process_words(" ".join(reference), " ".join(hypothesis))  # type: ignore[attr-defined]
    return found.substitutions + found.deletions + found.insertions


def rate_of(counts: Sequence[tuple[int, int]]) -> WordErrors:
    """The same of ``(errors, words)`` of recordings, in the order in which they were labelled."""
    wealth = np.ones((2, len(_GRID), len(_BETS)))
    inside = np.ones(len(_GRID), bool)
    bets = np.array(_BETS)
    cut = 0
    for errors, words in counts:
        cut += words > MOST_WORDS or errors > MOST_WORDS
        x = min(errors, MOST_WORDS) - _GRID * min(words, MOST_WORDS)
        # |x| <= MOST_WORDS, so no factor is negative.
        step = bets * (x / MOST_WORDS)[:, None]
        wealth[0] *= 1 + step
        wealth[1] *= 1 - step
        inside &= wealth.mean(axis=(0, 2)) < 1 / RISK
    held = _GRID[inside]
    return WordErrors(
        errors=sum(errors for errors, _ in counts),
        words=sum(words for _, words in counts),
        recordings=len(counts),
        low=float(held.min()) if held.size else 0.0,
        high=float(held.max()) if held.size else 1.0,
        cut=cut,
    )
