"""Collected problems of a YAML file, raised once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: where (``file:line: key.path``), what, and what would be right."""

    where: str
    problem: str
    remedy: str


def raise_all(shown: str, problems: Sequence[Problem]) -> None:
    """Raise one ``ConfigError`` that names every problem; return when there is none."""
    if not problems:
        return
    if len(problems) == 1:
        only = problems[0]
        raise ConfigError(only.problem, where=only.where, remedy=only.remedy)
    listed = "\n".join(f"{item.where}: {item.problem}\n  {item.remedy}" for item in problems)
    raise ConfigError(f"{len(problems)} problems\n{listed}", where=shown)
