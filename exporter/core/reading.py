"""Reading files that somebody gave: regular ones, of a size that is expected, into checked values.

There is one ``Door`` per kind of file. What comes through it is text, or plain values of JSON; a
pydantic model then makes typed records of these, and behind the door nobody asks again.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from exporter.core.errors import UserInputError, first_line
from exporter.core.files import open_regular

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONGEST_PATH, _LONGEST_NAME = 4095, 255
_MOST_DEPTH = 100
if TYPE_CHECKING:  # what serves a file imports this module and needs no schema
    from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound="BaseModel")


def path_of(text: str | Path) -> Path:
    """A path that a user wrote, with ``~`` filled in.

    Raises:
        ValueError: no file can have it; says why.
    """
    given = str(text)
    try:
        encoded = os.fsencode(given)
    except UnicodeEncodeError as error:
        raise ValueError("it holds what no file name can hold") from error
    if b"\0" in encoded:
        raise ValueError("it holds a NUL")
    if len(encoded) > _LONGEST_PATH or max(map(len, encoded.split(b"/"))) > _LONGEST_NAME:
        raise ValueError("it is longer than a path can be")
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no user {given.partition('/')[0]}") from error


def is_regular(path: Path) -> bool:
    """True for a regular file or a link to one; False also for a path that no file can have."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """How one kind of file is read.

    Attributes:
        error: what is raised for a file that is not as it should be.
        says: what is said of a file that is not as it should be; how, stands behind it.
        remedy: what to give instead.
        most_bytes: no file of this kind is larger.
    """

    error: type[UserInputError]
    says: str
    remedy: str
    most_bytes: int = 1 << 30

    def bytes(self, path: Path) -> bytes:
        """All of a file.

        Raises:
            UserInputError: of the door's own class; as for every method here.
        """
        try:
            with open_regular(path) as stream:
                size = os.fstat(stream.fileno()).st_size
                if size <= self.most_bytes:
                    return stream.read()
        except UserInputError as error:  # a pipe, a device, a folder
            raise self.bad(path, error.problem) from error
        except (OSError, ValueError) as error:
            raise self.bad(path, reason(error)) from error
        raise self.bad(path, f"{size:,} bytes are too many, {self.most_bytes:,} may be")

    def text(self, path: Path) -> str:
        """A file of text in UTF-8."""
        try:
            return self.bytes(path).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.bad(path, f"not text in UTF-8: {error.reason}") from error

    def json(self, path: Path) -> Any:
        """The plain values of a JSON file; all text in it can be encoded."""
        return self.json_of(self.bytes(path), path)

    def json_of(self, data: bytes, path: Path) -> Any:
        """The same of bytes that were read already."""
        try:
            value = json.loads(data)
            if _SURROGATE.search(data):
                json.dumps(value, ensure_ascii=False).encode("utf-8")
            _check_depth(value)
        except RecursionError as error:
            raise self.bad(path, "its values are nested too deeply") from error
        except ValueError as error:
            raise self.bad(path, f"not JSON: {reason(error)}") from error
        return value

    def record(self, model: type[M], value: Any, path: Path) -> M:
        """Plain values as a typed record.

        Args:
            path: where they come from, for messages.
        """
        from pydantic import ValidationError

        try:
            return model.model_validate(value)
        except ValidationError as error:
            raise self.bad(path, first_problem(error)) from error
        except RecursionError as error:
            raise self.bad(path, "its values are nested too deeply") from error

    def record_of_json(self, model: type[M], data: bytes, path: Path) -> M:
        """The bytes of a JSON file as a typed record."""
        from pydantic import ValidationError

        try:
            return model.model_validate_json(data)
        except ValidationError as error:
            raise self.bad(path, first_problem(error)) from error

    def bad(self, path: Path | str, how: str) -> UserInputError:
        """What to raise for a file that is not as it should be."""
        return self.wrong(path, f"{self.says} ({how})")

    def wrong(self, path: Path | str, problem: str) -> UserInputError:
        """What to raise for a file with a problem."""
        return self.error(problem, where=str(path), remedy=self.remedy)


def _check_depth(value: Any) -> None:
    """Raise ``RecursionError`` for values that whoever writes them again could not."""
    level, depth = [value] if isinstance(value, dict | list) else [], 0
    while level:
        inside = [
            container.values() if isinstance(container, dict) else container for container in level
        ]
        level = [
            item for container in inside for item in container if isinstance(item, dict | list)
        ]
        depth += 1
        if depth > _MOST_DEPTH:
            raise RecursionError


def first_problem(error: ValidationError) -> str:
    """The key that is wrong first, and how."""
    first = error.errors(include_url=False, include_input=False)[0]
    more = error.error_count() - 1
    key = ".".join(str(part) for part in first["loc"])[:200]
    others = f"; and {more} more" if more else ""
    return f"{key + ': ' if key else ''}{first['msg'][:200]}{others}"


def reason(error: BaseException) -> str:
    """The first line of what an exception says, short."""
    if isinstance(error, UserInputError):
        return first_line(Exception(error.problem))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:200]
    return first_line(error)
