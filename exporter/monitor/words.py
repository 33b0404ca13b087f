"""Labels to a word error rate that may be looked at after every label.

Two kinds of JSON lines, never both in one file:

    {"stratum": "low margin", "recordings": 162, "frame": 812, "rank": 0, "longest_s": 14.2,
     "hypothesis": ..., "reference": ...}         what 'monitor sample' offers, filled in
    {"stratum": "random", "hypothesis": ..., "reference": ...}      drawn by whoever labels

**What the number is of.** Of the first kind: of all ``frame`` recordings, each stratum with the
weight that it has among them, whatever was labelled first. Of the second: of whatever the random
recordings were drawn from; other strata are found errors and no rate, and are left out.

Within a stratum labels count up to the first that is missing: who leaves out what is hard to hear
has drawn no sample. ``betting`` has the argument for the bounds. It needs the most words that a
recording can have: what nobody speaks in the longest of the frame, ``MOST_WORDS`` where no length
is known. A recording that has more is counted with so many, which is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.core.errors import UserInputError
from exporter.core.reading import Door
from exporter.metrics.text import character_errors, word_errors
from exporter.monitor.betting import RISK, Stratum, bounds_of, rate_of_strata

DOOR = Door(
    error=UserInputError,
    says="not labels",
    remedy="give what 'monitor sample' wrote with references filled in, or JSON lines:"
    ' {"stratum": "random", "hypothesis": "...", "reference": "..."}',
)
RANDOM = "random"
MOST_WORDS = 100
UNITS = {"word": (word_errors, 6.0), "character": (character_errors, 25.0)}
"""Unit -> how its errors are counted, and how many a second nobody speaks."""
MOST_STRATA = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WordErrors:
    """A rate with its confidence sequence.

    Attributes:
        rate: None while a stratum has no label. unit: a key of ``UNITS``.
        strata: what was counted. cut: recordings that were longer than ``most``.
        skipped: labels behind a recording that was left out; they do not count.
    """

    rate: float | None
    low: float
    high: float
    strata: tuple[Stratum, ...]
    unit: str = "word"
    most: int = MOST_WORDS
    cut: int = 0
    skipped: int = 0

    def sentence(self) -> str:
        """For people."""
        sampled = math.isfinite(self.strata[0].recordings)
        size = sum(stratum.recordings for stratum in self.strata)
        parts = [self._part(stratum) for stratum in self.strata]
        what = f"of {size:,.0f} recordings, weighted: {'; '.join(parts)}" if sampled else parts[0]
        rate = "unknown" if self.rate is None else f"{100 * self.rate:.1f} %"
        cut = f"; {self.cut} counted with {self.most} {self.unit}s only" if self.cut else ""
        left = f"; {self.skipped} label(s) behind one that is missing" if self.skipped else ""
        return (
            f"{rate} ({what}), with {100 * (1 - RISK):.0f} % confidence at all times"
            f" {100 * self.low:.1f} to {100 * self.high:.1f} %{cut}{left}"
        )

    def _part(self, stratum: Stratum) -> str:
        errors, words = (sum(row[k] for row in stratum.counts) for k in (0, 1))
        said = f"{errors} of {words} {self.unit}s in {len(stratum.counts)}"
        if math.isinf(stratum.recordings):
            return f"{said} {stratum.name} recordings"
        return f"{stratum.name} {said} of {stratum.recordings:,.0f}"


def error_rate(labels: Path, unit: str = "word") -> WordErrors:
    """The rate that labels give.

    Args:
        unit: "character" for languages that are written without blanks.

    Raises:
        UserInputError: a line is no label, a stratum of the frame is missing, or nothing has a
            reference.
        MissingPackageError: jiwer is not installed.
    """
    rows = []
    for number, line in enumerate(DOOR.text(labels).splitlines(), 1):
        if line.strip():
            rows.append(_row(DOOR.json_of(line.encode(), labels), f"{labels}:{number}"))
    sampled = [row for row in rows if "frame" in row]
    if sampled and len(sampled) < len(rows):
        raise DOOR.bad(labels, "some lines are of a sample and others are not")
    if not sampled:
        counts = [
            _counted(row, unit) for row in rows if _labelled(row) and row["stratum"] == RANDOM
        ]
        if not counts:
            raise DOOR.bad(labels, "no random recording has a reference")
        return rate_of(counts, unit)
    strata, skipped = _strata_of(sampled, unit, labels)
    if not any(stratum.counts for stratum in strata):
        raise DOOR.bad(labels, "no recording has a reference")
    longest = max(row["longest_s"] for row in sampled)
    return _found(strata, unit, max(1, math.ceil(UNITS[unit][1] * longest)), skipped)


def rate_of(counts: Sequence[tuple[int, int]], unit: str = "word") -> WordErrors:
    """The same of ``(errors, words)`` of random recordings, in the order of their labels."""
    stratum = Stratum(name=RANDOM, recordings=math.inf, counts=counts)
    return _found((stratum,), unit, MOST_WORDS, 0)


def _found(strata: tuple[Stratum, ...], unit: str, most: int, skipped: int) -> WordErrors:
    low, high = bounds_of(strata, most)
    return WordErrors(
        rate=rate_of_strata(strata),
        low=low,
        high=high,
        strata=strata,
        unit=unit,
        most=most,
        cut=sum(max(row) > most for stratum in strata for row in stratum.counts),
        skipped=skipped,
    )


def _strata_of(
    rows: Sequence[Mapping[str, Any]], unit: str, labels: Path
) -> tuple[tuple[Stratum, ...], int]:
    """Strata with the labels that count, and how many do not."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["stratum"], []).append(row)
    sizes = {name: {row["recordings"] for row in rows_here} for name, rows_here in by_name.items()}
    frames = {row["frame"] for row in rows}
    if any(len(sizes_seen) > 1 for sizes_seen in (*sizes.values(), frames)):
        raise DOOR.bad(labels, "its lines are of more than one sample")
    if len(by_name) > MOST_STRATA or sum(max(sizes_seen) for sizes_seen in sizes.values()) != max(
        frames
    ):
        raise DOOR.bad(labels, "its strata are not those of the frame: lines are missing")
    strata, skipped = [], 0
    for name, rows_here in by_name.items():
        ranks = {row["rank"]: row for row in rows_here}
        if len(ranks) < len(rows_here) or max(ranks) >= rows_here[0]["recordings"]:
            raise DOOR.bad(labels, f"the ranks of '{name}' are not those of a sample")
        counts = []
        while (row := ranks.get(len(counts))) is not None and _labelled(row):
            counts.append(_counted(row, unit))
        skipped += sum(map(_labelled, rows_here)) - len(counts)
        strata.append(Stratum(name=name, recordings=rows_here[0]["recordings"], counts=counts))
    return tuple(strata), skipped


def _row(row: Any, where: str) -> Mapping[str, Any]:
    """A line that is a label, of either kind."""
    needed = {"stratum", "hypothesis", "reference"}
    if not isinstance(row, dict) or not needed <= row.keys():
        raise DOOR.bad(where, "stratum, hypothesis and reference are needed")
    if not all(row[name] is None or isinstance(row[name], str) for name in needed):
        raise DOOR.bad(where, "stratum, hypothesis and reference are text")
    if row["reference"] is not None and row["hypothesis"] is None:
        raise DOOR.bad(where, "it has a reference, and no hypothesis to hold against it")
    if "frame" not in row:
        return row
    least = {"recordings": 1, "frame": 1, "rank": 0}
    whole = all(type(row.get(name)) is int and row[name] >= low for name, low in least.items())
    longest = row.get("longest_s")
    long = isinstance(longest, int | float) and not isinstance(longest, bool) and 0 < longest < 1e6
    if not (whole and long and row["stratum"]):
        raise DOOR.bad(where, "recordings, frame, rank and longest_s are not those of a sample")
    return row


def _labelled(row: Mapping[str, Any]) -> bool:
    return row["reference"] is not None


def _counted(row: Mapping[str, Any], unit: str) -> tuple[int, int]:
    errors = UNITS[unit][0](row["reference"], row["hypothesis"])
    return errors.count, errors.length
