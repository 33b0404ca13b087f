"""Stages that show nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


class _Stage:
    def result(self, text: str) -> None: ...

    def update(self, *details: Any) -> None: ...


@dataclass
class Silent:
    """What ``exporter.core.stages.Stages`` asks for, without a screen."""

    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[_Stage]:
        yield _Stage()
        self.timings[name] = 0.0

    def phase(self, detail: str, done: int | None = None, total: int | None = None) -> None: ...

    def note(self, text: str) -> None: ...
