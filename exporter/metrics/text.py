"""Token, character and word error between two texts, with the alignment shown (by jiwer)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.core.extras import need


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """What separates two sequences.

    Attributes:
        unit: "token", "character" or "word".
        substitutions, deletions, insertions: what turns the expected into the actual one.
        length: of the expected one.
        alignment: both under each other, differences marked; "" where there are none.
    """

    unit: str
    substitutions: int
    deletions: int
    insertions: int
    length: int
    alignment: str = ""

    @property
    def count(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per expected unit; of nothing expected, 1 for every error."""
        return self.count / max(1, self.length)

    def __add__(self, other: Errors) -> Errors:
        """Of both together, without an alignment."""
        return Errors(
            unit=self.unit,
            substitutions=self.substitutions + other.substitutions,
            deletions=self.deletions + other.deletions,
            insertions=self.insertions + other.insertions,
            length=self.length + other.length,
        )


def no_errors(unit: str) -> Errors:
    """Of nothing: what sums begin with."""
    return Errors(unit=unit, substitutions=0, deletions=0, insertions=0, length=0)


def token_errors(expected: Sequence[int], actual: Sequence[int]) -> Errors:
    """Between two sequences of token ids."""
    return _errors("token", " ".join(map(str, expected)), " ".join(map(str, actual)))


def word_errors(expected: str, actual: str) -> Errors:
    """Between two texts, cut at white space; nothing else is normalised."""
    return _errors("word", expected, actual)


def character_errors(expected: str, actual: str) -> Errors:
    """Between two texts; white space counts as one blank."""
    return _errors("character", expected, actual)


def _errors(unit: str, expected: str, actual: str) -> Errors:
    need("jiwer", who="counting errors of texts")
    import jiwer

    expected, actual = " ".join(expected.split()), " ".join(actual.split())
    process = jiwer.process_characters if unit == "character" else jiwer.process_words
    aligned = process(expected, actual)
    shown = ""
    if expected != actual:
        shown = jiwer.visualize_alignment(aligned, show_measures=False)
        lines = [line.rstrip() for line in shown.splitlines()[1:]]
        shown = "\n".join(line for line in lines if line)
    return Errors(
        unit=unit,
        substitutions=aligned.substitutions,
        deletions=aligned.deletions,
        insertions=aligned.insertions,
        length=aligned.hits + aligned.substitutions + aligned.deletions,
        alignment=shown,
    )
