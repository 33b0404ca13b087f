"""docs/false_passes.md lists the ways that the tests try, and there are enough of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.false_passes_table import LEAST, Row, page, rows

PAGE = Path(__file__).parents[2] / "docs" / "false_passes.md"


def test_the_page_is_what_the_tests_say():
    said = PAGE.read_text(encoding="utf-8")
    assert said == page(list(rows())), "run scripts/false_passes_table.py"


def test_there_are_many_ways_and_no_two_are_alike():
    found = [(row.topic, row.words) for row in rows()]
    assert len(found) >= LEAST
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("text", ["a | b", "two\nlines"])
def test_a_row_stays_one_row(text: str):
    line = page([Row(topic="t", words=text, says="s")]).splitlines()[-1]
    assert line.count(" | ") == 2
    assert line.startswith("| t | ")
