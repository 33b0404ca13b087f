"""What a script writes between two marks of a page, and what it leaves as it is."""

from __future__ import annotations

import pytest

from scripts.marked_page import between, replaced, write_between

MARKS = "<!-- a -->", "<!-- /a -->"
PAGE = "above\n<!-- a -->\nold\n<!-- /a -->\nbelow\n"


def test_only_what_stands_between_the_marks_is_replaced():
    made = replaced(PAGE, MARKS, "new")
    assert made == "above\n<!-- a -->\nnew\n<!-- /a -->\nbelow\n"
    assert between(made, MARKS) == "\nnew\n"


@pytest.mark.parametrize("lost", MARKS)
def test_a_page_that_has_lost_a_mark_loses_nothing_else(lost):
    with pytest.raises(SystemExit, match="not both marks"):
        replaced(PAGE.replace(lost, ""), MARKS, "new")


def test_a_file_that_has_lost_a_mark_stays_as_it_is(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write_between(page, MARKS, "new")
    assert page.read_text() == replaced(PAGE, MARKS, "new")
    page.write_text(broken := PAGE.replace(MARKS[1], ""))
    with pytest.raises(SystemExit, match="not both marks"):
        write_between(page, MARKS, "new")
    assert page.read_text() == broken
