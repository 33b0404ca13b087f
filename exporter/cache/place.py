"""Where the cache lies and how large it may become; both can be said by the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from exporter.core.disk import size_in_bytes
from exporter.core.errors import UserInputError

FOLDER_VARIABLE = "EXPORT_VERIFY_CACHE"
SIZE_VARIABLE = "EXPORT_VERIFY_CACHE_SIZE"
OFF = ("", "off", "none", "0")
DEFAULT_SIZE = 10 << 30

_NAME = "export-verify"


def cache_folder() -> Path | None:
    """The folder that ``EXPORT_VERIFY_CACHE`` names, else one in the user's cache folder.

    Returns:
        None where the variable says ``off``, or where there is no home to put a folder in.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    if given is not None:
        text = given.strip()
        return None if text.lower() in OFF else Path(text).expanduser().absolute()
    try:
        return _user_folder() / _NAME
    except RuntimeError:
        return None


def _user_folder() -> Path:
    """Where the system wants caches: XDG's base directories, Apple's or Microsoft's place."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    given = Path(os.environ.get(variable, "").strip())
    # XDG: a relative path is to be ignored.
    return given if given.is_absolute() else Path.home() / ".cache"


def cache_size(environment: Mapping[str, str] | None = None) -> int:
    """Bytes that all entries together may take: ``EXPORT_VERIFY_CACHE_SIZE``, else 10 GiB.

    Raises:
        UserInputError: the variable holds no size.
    """
    variables = os.environ if environment is None else environment
    text = variables.get(SIZE_VARIABLE, "").strip()
    if not text:
        return DEFAULT_SIZE
    size = size_in_bytes(text)
    if size is None:
        raise UserInputError(
            f"{SIZE_VARIABLE}: '{text}' is no size", remedy="write for example 20GiB or 500MB"
        )
    return size
