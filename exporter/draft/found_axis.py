"""An axis that was found by running a module or a file at several sizes."""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[str, int]
"""An input, and one of its dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAxis:
    """A size that may vary.

    Attributes:
        name: of the axis. example: a size at which it ran.
        places: where it stands, for a module; a file's inputs name their axes themselves.
        minimum, maximum: the smallest and the largest size that ran; None where there is no end.
        multiple_of: every size that ran is a multiple of this.
        fixed: no other size runs.
        why: how it is known, for a person.
    """

    name: str
    example: int
    places: tuple[Place, ...] = ()
    minimum: int = 1
    maximum: int | None = None
    multiple_of: int = 1
    fixed: bool = False
    why: str = ""
