"""A way to a pass that was not earned, as a test: what is tried, and what the tool says to it.

    @way("a file replaced after its run is judged by its old report", says="is not the file")
    def test_replaced_file(tmp_path):
        ...
        return Told(exit_code=report.exit_code, text=report.headline)

The decorated test fails when the attempt passes (exit code 0), or when what the tool says does not
hold the words that a person needs. ``scripts/false_passes_table.py`` lists all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the tool answered: its exit code (or the one that its report gives), and its words."""

    exit_code: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What is tried, and the words that the answer must hold (whatever their case)."""

    words: str
    says: str


def way(words: str, *, says: str) -> Callable[[Callable[..., Told]], Callable[..., None]]:
    """Declare a test function that returns what the tool told to be one way to a false pass."""
    if not words.strip() or not says.strip():
        raise ValueError("say what is tried, and what the answer must hold")

    def decorate(attempt: Callable[..., Told]) -> Callable[..., None]:
        @functools.wraps(attempt)
        def test(*args: Any, **kwargs: Any) -> None:
            told = attempt(*args, **kwargs)
            assert told.exit_code in (1, 2), f"exit {told.exit_code}: {told.text}"
            assert says.lower() in told.text.lower(), told.text

        test.way = Way(words=words, says=says)  # type: ignore[attr-defined]
        return test

    return decorate
