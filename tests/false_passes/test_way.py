"""The decorator of the catalogue can fail: a pass, a crash and wrong words are each seen."""

from __future__ import annotations

import pytest

from tests.false_passes.way import Told, way


def _attempt(exit_code: int, text: str):
    return way("an attempt", says="limit")(lambda: Told(exit_code=exit_code, text=text))


def test_an_answer_with_the_right_words_is_enough():
    _attempt(1, "above its Limit")()
    _attempt(2, "a limit of infinity")()


@pytest.mark.parametrize(("code", "text"), [(0, "limit"), (3, "limit"), (1, "all is well")])
def test_a_pass_a_crash_and_other_words_are_seen(code: int, text: str):
    with pytest.raises(AssertionError):
        _attempt(code, text)()


def test_an_empty_description_is_refused():
    with pytest.raises(ValueError, match="what the answer must hold"):
        way("an attempt", says=" ")
