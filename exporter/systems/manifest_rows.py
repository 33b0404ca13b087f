"""Results of a manifest on disk: one JSON line per utterance, added as soon as it is known.

The first line says what the results are of. A run that was killed is taken up behind its last whole
line if system, files and manifest are the same; else it begins anew. A result whose key has changed
(another recording under the same name) is replaced by a line further down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from exporter.core.files import append_text, open_regular, replacing
from exporter.parity.status import Status, status_of
from exporter.report.comparison import Record

ROWS = "manifest.jsonl"


class Row(Record):
    """What was found of one utterance."""

    number: int
    key: str
    name: str
    verdict: str
    reason: str
    seconds: float | None = None
    tags: dict[str, str | int | float | bool] = Field(default_factory=dict)
    tokens: list[int] | None = None
    onnx_tokens: list[int] | None = None
    token_errors: list[int] = Field([0, 0], description="errors, tokens of PyTorch's")
    text: str | None = None
    onnx_text: str | None = None
    said: str | None = Field(None, description="the manifest's text")
    words: list[int] | None = Field(None, description="word errors of both sides, words said")
    alignment: str = ""
    differs: bool = Field(default=False, description="its failure is one of tokens alone")
    graphs: list[str] = Field([], description="graphs of which a call is no pass")
    embedding: list[float] | None = None
    onnx_embedding: list[float] | None = None


class Rows:
    """The file of results in a folder.

    Args:
        origin: what the results are of.

    Attributes:
        taken_up: how many rows of an earlier run count.
    """

    def __init__(self, folder: Path, origin: dict[str, str]):
        self._path = folder / ROWS
        self._origin = origin
        self.done: dict[int, str] = {}
        self._take_up()
        self._old = set(self.done)
        self.taken_up = len(self._old)

    def add(self, row: Row) -> None:
        """Append one result; a kill loses at most the one that is being written."""
        append_text(self._path, row.model_dump_json() + "\n")
        self.taken_up -= row.number in self._old
        self._old.discard(row.number)
        self.done[row.number] = row.key

    def __iter__(self) -> Iterator[Row]:
        """The result of every utterance, read one by one."""
        seen = set()
        for line in self._lines():
            row = Row.model_validate_json(line)
            if self.done.get(row.number) == row.key and row.number not in seen:
                seen.add(row.number)
                yield row

    def _lines(self) -> Iterator[bytes]:
        with open_regular(self._path) as stream:
            next(stream, None)
            yield from stream

    def _take_up(self) -> None:
        whole = []
        if self._path.is_file():
            with open_regular(self._path) as stream:
                head = next(stream, b"")
                if _origin_of(head) == self._origin:
                    whole = list(self._whole(stream))
        # Written anew without what a kill has cut off: more would be added behind half a line.
        with replacing(self._path) as part, part.open("wb") as stream:
            stream.write(json.dumps(self._origin).encode() + b"\n")
            stream.writelines(whole)

    def _whole(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        for written in stream:
            try:
                row = Row.model_validate_json(written)
            except ValidationError:
                return
            if not written.endswith(b"\n"):
                return
            if status_of(row.verdict) is Status.NOT_RUN:
                continue  # its recording may be there by now
            self.done[row.number] = row.key
            yield written


def _origin_of(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
