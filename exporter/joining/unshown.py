"""What speaks against a file although all that is compared of it agrees: no number here shows it.

fails      a decision that another operator takes, alike on all that was run
ambiguous  a value that is not joined and leads to decisions alone; what an operator keeps back
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from exporter.joining.joined import Joined
from exporter.parity.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Unshown:
    """One thing that nobody may pass over.

    Attributes:
        expected, actual: names of the value it is about; ``expected`` is "" where nothing of the
            expected file stands for it.
        status: what it makes of a file that is well otherwise. words: what it is.
    """

    expected: str
    actual: str
    status: Status
    words: str


def unshown(joined: Joined) -> Iterator[Unshown]:
    """What of a joined file decides beside its numbers, the worse first."""
    for item in joined.otherwise:
        yield Unshown(
            expected=item.expected, actual=item.actual, status=Status.FAIL, words=item.words()
        )
    for name in joined.unseen:
        words = f"'{name}' is not joined, and only decisions are compared behind it"
        yield Unshown(expected="", actual=name, status=Status.AMBIGUOUS, words=words)
    for item in joined.covered:
        yield Unshown(
            expected=item.own, actual=item.actual, status=Status.AMBIGUOUS, words=item.words()
        )
