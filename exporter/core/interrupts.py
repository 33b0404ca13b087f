"""SIGINT, SIGTERM and SIGHUP end the program: at once, with one line, wherever it is.

Python runs a handler between two of its own instructions, in the main thread: not while that one
computes in torch or onnxruntime, and an exception that a handler raises while a library of theirs
is loaded ends the process with ``terminate called``. So nothing is raised. The system's part of
the handler writes the number of the signal into a pipe; a thread waits at its other end, undoes
what is half done, says one line, and ends the process. Files are written whole or not at all
(``exporter.core.files``), so there is nothing that must not be stopped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"
_UNDO: dict[object, Callable[[], object]] = {}
_ENDING = threading.Event()
_STARTED = threading.Event()


def end_at_signals() -> None:
    """From now on a signal ends this process with 128 and its number.

    For the process of a command, before anything slow is imported; a program that uses this
    package has handlers of its own. One that is ignored (``nohup``) stays ignored.
    """
    if _STARTED.is_set():
        return
    _STARTED.set()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    watched = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    for number in watched:
        signal.signal(number, _nothing)
    threading.Thread(target=_watch, args=(reading, frozenset(watched)), daemon=True).start()


@contextlib.contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """Call ``undo`` if a signal ends the program while the block runs; not at its own end."""
    key = object()
    _UNDO[key] = undo
    try:
        yield
    finally:
        _UNDO.pop(key, None)


def wait_if_ending() -> None:
    """Does not return once a signal is ending the program: it has its one line already."""
    if _ENDING.is_set():
        threading.Event().wait()


def _nothing(number: int, frame: Any) -> None:
    """Only so that the signal is not the system's to handle; the pipe has it already."""


def _watch(reading: int, watched: frozenset[int]) -> None:
    while True:
        for number in os.read(reading, 1):
            if number in watched:
                _end(number)


def _end(number: int) -> None:
    _ENDING.set()
    for undo in list(_UNDO.values())[::-1]:
        with contextlib.suppress(Exception):
            undo()
    with contextlib.suppress(OSError, ValueError):
        # Where a stage is shown as a live line that one is in the way, and the cursor is hidden.
        before = _SHOW_CURSOR if os.isatty(2) else ""
        os.write(2, f"{before}interrupted ({signal.Signals(number).name})\n".encode())
    os._exit(128 + number)
