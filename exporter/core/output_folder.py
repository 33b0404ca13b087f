"""The folder that a command works in: one process at a time, of one pipeline, and writable.

    <folder>/.export-verify.lock    held while a command works here; see ``exporter.core.lock``
    <folder>/.export-verify.json    who does, or did last: pipeline, process, host, since when

A second process waits; a folder that holds another pipeline's files is refused.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exporter.core.disk import writable_folder
from exporter.core.errors import UserInputError
from exporter.core.files import clear_parts, read_text, write_text
from exporter.core.lock import locked

LOCK = ".export-verify.lock"
OWNER = ".export-verify.json"
WAIT_VARIABLE = "EXPORT_VERIFY_WAIT"
GOLDEN_CHECK = "golden_check"
"""What ``golden check`` makes, beside nothing that another command has written."""
WRITTEN = (
    *("program", "verify", "verify/reference", GOLDEN_CHECK, "debug"),
    *("model.onnx", "model.onnx.data", "exported.onnx", "exported.onnx.data", "report.json"),
)
"""Folders and files that commands make below the output folder."""
DEFAULT_WAIT = 600.0
_MOST_SECONDS = 1e6
_HELD = threading.local()


@contextlib.contextmanager
def output_folder(
    folder: Path, *, pipeline: str, say: Callable[[str], None], writes: bool = True
) -> Iterator[None]:
    """Work in ``folder`` alone while the block runs; may be nested in one thread.

    Args:
        folder: made if it is not there.
        pipeline: name of the pipeline whose files lie there, or will.
        say: told when another process has to be waited for.
        writes: False for a command that only reads what another one has left: a folder that is
            not there is not made, and one that is read-only will do.

    Raises:
        UserInputError: the folder cannot be written to, is of another pipeline, or another process
            has not ended within ``EXPORT_VERIFY_WAIT`` seconds (ten minutes by default).
    """
    wait = _seconds_to_wait()
    if writes:
        check_output_folder(folder)
    key = str(folder.resolve())
    folders: set[str] = _HELD.__dict__.setdefault("folders", set())
    if key in folders or not (writes or _can_be_locked(folder)):
        yield
        return
    _refuse_other(folder, pipeline)
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(locked(folder / LOCK)):
            say(f"waiting for {_owner_in_words(folder)}, which is using {folder}")
            if not stack.enter_context(locked(folder / LOCK, wait=wait)):
                raise _in_use(folder, wait)
            _refuse_other(folder, pipeline)
        if writes:
            clear_parts(folder)
            _write_owner(folder, pipeline)
        folders.add(key)
        stack.callback(folders.discard, key)
        yield


def check_output_folder(folder: Path, *, keep: bool = True) -> None:
    """Make the folder, and check that files can be written to it and stay below it.

    Args:
        keep: False takes away again what was made.

    Raises:
        UserInputError: they cannot.
    """
    writable_folder(folder, "output folder", keep=keep)
    for name in WRITTEN:
        if (folder / name).is_symlink():
            raise UserInputError(
                "this is a symbolic link: what is written to it would lie elsewhere",
                where=str(folder / name),
                remedy="remove the link, or give another --output-dir",
            )


def _seconds_to_wait() -> float:
    text = os.environ.get(WAIT_VARIABLE, "").strip()
    if not text:
        return DEFAULT_WAIT
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _MOST_SECONDS:
        raise UserInputError(
            f"{WAIT_VARIABLE}: '{text}' is no number of seconds",
            remedy="give 0 to be refused at once, or how long to wait for another process",
        )
    return seconds


def _can_be_locked(folder: Path) -> bool:
    """False for a folder in which nobody can write, or that is not there."""
    return folder.is_dir() and os.access(folder, os.W_OK)


def _refuse_other(folder: Path, pipeline: str) -> None:
    other = _owner(folder).get("pipeline", pipeline)
    if other != pipeline:
        raise UserInputError(
            f"this folder holds files of the pipeline '{other}', not of '{pipeline}'",
            where=str(folder),
            remedy="give another --output-dir, or delete the folder",
        )


def _in_use(folder: Path, waited: float) -> UserInputError:
    lock = folder / LOCK
    return UserInputError(
        f"{_owner_in_words(folder)} is using this folder, and has not ended in {waited:g} s",
        where=str(folder),
        remedy="let it end, or give another --output-dir; a process of another machine that is"
        f" gone may have left {lock}*: delete it then",
    )


def _owner_in_words(folder: Path) -> str:
    owner = _owner(folder)
    if "pid" not in owner:
        return "another process"
    return f"process {owner['pid']} on {owner.get('host')} (since {owner.get('since')})"


def _owner(folder: Path) -> dict[str, Any]:
    """Who is, or was, at work here; {} where that is not known."""
    try:
        content = json.loads(read_text(folder / OWNER))
    except (OSError, ValueError, UserInputError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_owner(folder: Path, pipeline: str) -> None:
    owner = {
        "pipeline": pipeline,
        "pid": os.getpid(),
        "host": platform.node(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(folder / OWNER, json.dumps(owner, indent=1) + "\n")
