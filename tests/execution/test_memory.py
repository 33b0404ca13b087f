"""Freed pages are kept up to a bound, and given back beyond it."""

from __future__ import annotations

import gc
import mmap
import sys

import pytest

from exporter.execution import memory
from exporter.execution.memory import FreedPages, resident_bytes

GIB = 1 << 30


@pytest.fixture
def resident(monkeypatch):
    """What the process is said to hold; a trim brings it down to ``after``."""
    held = {"now": 4 * GIB, "after": 3 * GIB}
    monkeypatch.setattr(memory, "resident_bytes", lambda: held["now"])
    monkeypatch.setattr(memory, "trim", lambda: held.update(now=held["after"]))
    return held


def test_pages_below_the_bound_are_kept(resident):
    pages = FreedPages(2 * GIB)
    for now in (5, 6, 5.5):
        resident["now"] = int(now * GIB)
        pages.settle()
    assert pages.trims == 0


def test_beyond_the_bound_they_go_back_and_the_count_begins_anew(resident):
    pages = FreedPages(2 * GIB)
    resident["now"] = 6 * GIB + 1
    pages.settle()
    assert pages.trims == 1 and resident["now"] == 3 * GIB
    resident["now"] = 5 * GIB
    pages.settle()
    assert pages.trims == 1
    resident["now"] = 5 * GIB + 1
    pages.settle()
    assert pages.trims == 2


def test_what_a_trim_cannot_return_is_no_reason_to_trim_again(resident):
    """A heap with holes, or weights that came in: the next windows count from there."""
    pages = FreedPages(2 * GIB)
    resident.update(now=9 * GIB, after=9 * GIB)
    for _ in range(5):
        pages.settle()
    assert pages.trims == 1


def test_a_process_that_shrinks_by_itself_lowers_the_floor(resident):
    pages = FreedPages(2 * GIB)
    resident["now"] = 1 * GIB
    pages.settle()
    resident["now"] = 3 * GIB + 1
    pages.settle()
    assert pages.trims == 1


def test_where_the_system_does_not_say_pages_are_never_hoarded(monkeypatch):
    monkeypatch.setattr(memory, "resident_bytes", lambda: None)
    monkeypatch.setattr(memory, "trim", lambda: None)
    pages = FreedPages(2 * GIB)
    pages.settle()
    pages.settle()
    assert pages.trims == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
def test_resident_bytes_grow_with_what_is_touched():
    before = resident_bytes()
    assert before is not None
    # Mapped, not allocated: an earlier walk in this process may have kept pages that it freed.
    with mmap.mmap(-1, 64 << 20) as block:
        block.write(b"\1" * len(block))
        after = resident_bytes()
    assert after is not None and after - before > 32 << 20


def test_old_objects_are_left_alone_until_the_end_also_of_a_block_that_raises():
    def stops():
        with memory.old_objects_left_alone():
            assert gc.get_freeze_count() > 0
            raise KeyError

    with pytest.raises(KeyError):
        stops()
    assert gc.get_freeze_count() == 0


def test_what_a_process_has_set_aside_itself_stays_there():
    gc.freeze()
    try:
        count = gc.get_freeze_count()
        with memory.old_objects_left_alone():
            pass
        assert gc.get_freeze_count() >= count - 100 > 0  # some of them died
    finally:
        gc.unfreeze()
