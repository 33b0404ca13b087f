"""A write that a module made to what its caller or another call holds."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from exporter.contracts.result import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutated:
    """One tensor that a forward changed.

    Attributes:
        name: input, or state.
        kind: "input", "parameter", "buffer", "attribute".
        how: what gave it away.
        where: module, op and line.
    """

    name: str
    kind: str
    how: str
    where: Location


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """True when a name matches one of the declared patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
