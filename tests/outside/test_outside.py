"""Small models of kinds that people bring: each gets the answer that is right for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.outside.table import FOLDER, TABLE, Row, Seen, ask, passes


def _param(row: Row):
    strict = not row.by_chance
    marks = [pytest.mark.xfail(reason=row.waiting, strict=strict)] if row.waiting else []
    return pytest.param(row, id=row.name, marks=marks)


@pytest.mark.parametrize("row", [_param(row) for row in TABLE])
def test_the_answer_is_the_right_one(row: Row, tmp_path: Path):
    seen = ask(row.name, tmp_path)
    wrong = row.check(seen)
    assert not wrong, f"{row.right}\nbut: {wrong}\n{seen.text}"


def test_every_pipeline_of_the_folder_has_a_row():
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(row.name for row in TABLE)


def test_an_answer_that_is_not_a_pass_is_told_from_one():
    assert passes()(Seen(exit_code=3, text="", report=None)) == "exit 3"
    assert passes()(Seen(exit_code=0, text="", report=None))
