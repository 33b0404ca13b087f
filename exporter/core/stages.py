"""What the stages of a run hand to each other, and how they show themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Stages(Protocol):
    """What shows the stages of a run to a person."""

    timings: dict[str, float]

    def stage(self, name: str) -> Any: ...

    def phase(self, detail: str, done: int | None = None, total: int | None = None) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """An ONNX file of the chain.

    Attributes:
        name: "exported", "simplified" or "given".
        path: the file; it is read when it is walked, and its weights are held once.
        stage: the stage that is guilty when this file is the first that is wrong.
    """

    name: str
    path: Path
    stage: str
