"""The part of a page between two marks, which a script writes.

What stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is a script's; all else is written by
hand.
"""

from __future__ import annotations

from pathlib import Path

Marks = tuple[str, str]


def between(page: str, marks: Marks) -> str:
    """What stands between the marks. Raises ``SystemExit`` where a page has not both of them."""
    return _cut(page, marks)[1]


def replaced(page: str, marks: Marks, text: str) -> str:
    """The page with ``text``, on lines of its own, between the marks; raises as ``between``."""
    before, _, after = _cut(page, marks)
    return f"{before}{marks[0]}\n{text}\n{marks[1]}{after}"


def write_between(path: Path, marks: Marks, text: str) -> None:
    """Write ``text`` between the marks of a page that is a file; raises as ``between``."""
    path.write_text(replaced(path.read_text(encoding="utf-8"), marks, text), encoding="utf-8")


def _cut(page: str, marks: Marks) -> tuple[str, str, str]:
    before, begin, rest = page.partition(marks[0])
    held, end, after = rest.partition(marks[1])
    if not (begin and end):
        # Without this a page that has lost a mark would lose all that stands behind it.
        raise SystemExit(f"the page has not both marks, {marks[0]} and {marks[1]}")
    return before, held, after
