"""How far a reader must jump: the figures of docs/architecture.md hold, as at most."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from scripts.trace_hops import PAGE, ROOT, TABLE, WAYS, Hops, Read, Trace, too_long

TAP, GOLDEN = WAYS
MOST = {TAP: (20, 15), GOLDEN: (15, 10)}
"""Files and returns of the functions that lead on; to be lowered, never raised."""


def rows(text: str) -> dict[str, list[int]]:
    """Name of a way -> files, changes, returns, and those with leaves."""
    found = {}
    for line in text.splitlines()[2:]:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        found[name] = [int(cell) for cell in cells if cell.isdigit()]
    return found


def test_a_return_is_a_change_to_a_file_that_was_left():
    straight = Hops(("a", "a", "b", "c"))
    assert (straight.files, straight.changes, straight.returns) == (3, 2, 0)
    back = Hops(("a", "b", "a", "a", "b"))
    assert (back.files, back.changes, back.returns) == (2, 3, 2)
    assert Hops(()).changes == 0


def test_a_leaf_and_a_word_of_the_house_lead_nowhere():
    found = Trace()
    start, step, leaf = Read("a.py", "start"), Read("b.py", "step"), Read("c.py", "leaf")
    found.add(None, start)
    found.add(start, step)
    found.add(step, Read("core/tensors.py", "Case.name"))
    assert found.way().path == ("a.py",)
    found.add(step, leaf)
    found.add(leaf, Read("c.py", "own"))
    assert found.way().path == ("a.py", "b.py")
    assert found.whole().path == ("a.py", "b.py", "core/tensors.py", "c.py", "c.py")


@pytest.mark.parametrize(("over", "long"), [((0, 0), False), ((1, 0), True), ((0, 1), True)])
def test_a_way_that_is_too_long_is_found(over: tuple[int, int], long: bool):
    files, returns = (limit + more for limit, more in zip(WAYS[TAP][1:], over, strict=True))
    names = [f"{number}.py" for number in range(files)]
    path = [*names, *(names[number % 2] for number in range(returns))]
    assert too_long(TAP, Hops(tuple(path))) is long


def test_the_page_states_no_more_than_is_held():
    table = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert table is not None
    for name, figures in rows(table[0].strip()).items():
        assert figures[0] <= MOST[name][0], name
        assert figures[2] <= MOST[name][1], name


@pytest.mark.slow
def test_the_ways_are_no_longer_than_the_page_says():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "trace_hops.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    found = rows(done.stdout)
    table = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert found.keys() == WAYS.keys(), done.stderr
    assert table is not None
    for name, stated in rows(table[0].strip()).items():
        now = found[name]
        assert now[0] <= MOST[name][0], name
        assert now[2] <= MOST[name][1], name
        assert all(one <= other for one, other in zip(now, stated, strict=True)), (name, now)


def test_the_changes_follow_from_files_and_returns():
    table = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert table is not None
    assert re.search(r"\d", table[0])
    for files, changes, returns, *whole in rows(table[0].strip()).values():
        assert changes == files - 1 + returns
        assert whole[1] == whole[0] - 1 + whole[2]
