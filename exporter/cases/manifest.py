"""A manifest: JSON lines, one recording a line, with its text and whatever the user calls it by.

    {"audio": "a.wav", "text": "good morning", "speaker": "ann", "noise_db": 10}

``audio_filepath`` is read as ``audio`` (NeMo's manifests), ``duration`` is measured and not read.
Keys that are not known are tags: the summary has a bucket for each of their values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from exporter.core.errors import ConfigError
from exporter.core.files import open_regular
from exporter.core.reading import Door, path_of, reason

_DOOR = Door(
    error=ConfigError,
    says="this line is no utterance",
    remedy='write one JSON object a line: {"audio": "a.wav", "text": "good morning"}',
)
MOST_ROWS = 1_000_000
_MOST_BYTES = 1 << 20
Tag = str | int | float | bool


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    audio: Annotated[str, StringConstraints(min_length=1)]
    text: str | None = None
    id: str | int | None = None
    duration: float | int | None = None
    inputs: dict[str, Any] = Field(default_factory=dict)
    expect_empty: bool = False
    tags: dict[str, Tag] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _others_are_tags(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = {**data}
        if "audio" not in known and "audio_filepath" in known:
            known["audio"] = known.pop("audio_filepath")
        others = {key: known.pop(key) for key in list(known) if key not in cls.model_fields}
        given = known.get("tags")
        return {**known, "tags": {**(given if isinstance(given, dict) else {}), **others}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One line of a manifest.

    Attributes:
        number: of its line, from 1.
        name: its ``id``, else its line.
        key: sha256 of the line, by which an earlier result is known to be of it.
        audio: path; it counts from the manifest's folder.
        text: what is said; None where the manifest does not tell.
        inputs: values of other inputs of the system.
        empty: nothing is said in it.
        tags: the user's own.
    """

    number: int
    name: str
    key: str
    audio: Path
    text: str | None
    inputs: dict[str, Any]
    empty: bool
    tags: dict[str, Tag]


def read_manifest(path: Path) -> Iterator[Utterance]:
    """Utterances line by line; empty lines are passed over.

    Raises:
        ConfigError: the file cannot be read, or a line is no utterance; says which.
    """
    try:
        with open_regular(path) as stream:
            for number, line in enumerate(stream, start=1):
                if number > MOST_ROWS or len(line) > _MOST_BYTES:
                    raise _DOOR.bad(f"{path}:{number}", "there are too many lines, or it is long")
                if line.strip():
                    yield _utterance(path, number, line)
    except OSError as error:
        raise ConfigError(
            f"the manifest cannot be read ({reason(error)})",
            where=str(path),
            remedy="give the path of a file of JSON lines",
        ) from error


def _utterance(path: Path, number: int, line: bytes) -> Utterance:
    where = Path(f"{path}:{number}")
    row = _DOOR.record(_Line, _DOOR.json_of(line, where), where)
    try:
        audio = path_of(path.parent / path_of(row.audio))
    except ValueError as error:
        raise _DOOR.bad(where, f"audio: {error}") from error
    return Utterance(
        number=number,
        name=str(row.id) if row.id is not None else f"line {number}",
        key=hashlib.sha256(line.strip()).hexdigest(),
        audio=audio,
        text=row.text,
        inputs=dict(row.inputs),
        empty=row.expect_empty,
        tags=dict(row.tags),
    )
