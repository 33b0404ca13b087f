"""Where the cache lies and how large it may become; both can be said by the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_cache_path

from exporter.core.errors import UserInputError

FOLDER_VARIABLE = "EXPORT_VERIFY_CACHE"
SIZE_VARIABLE = "EXPORT_VERIFY_CACHE_SIZE"
OFF = ("", "off", "none", "0")
DEFAULT_SIZE = 10 << 30

_NAME = "export-verify"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


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
        return user_cache_path(_NAME, appauthor=False)
    except RuntimeError:
        return None


def cache_size(environment: Mapping[str, str] | None = None) -> int:
    """Bytes that all entries together may take: ``EXPORT_VERIFY_CACHE_SIZE``, else 10 GiB.

    Raises:
        UserInputError: the variable holds no size.
    """
    held = os.environ if environment is None else environment
    text = held.get(SIZE_VARIABLE, "").strip()
    if not text:
        return DEFAULT_SIZE
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", text, re.IGNORECASE)
    if match is None:
        raise UserInputError(
            f"{SIZE_VARIABLE}: '{text}' is no size", remedy="write for example 20GiB or 500MB"
        )
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])
