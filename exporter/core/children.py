"""Processes that this one starts: they end when it does, however that comes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from exporter.core.interrupts import undone

_GUARDED: list[bool] = []
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LOOK_SECONDS = 0.5
_MOST_SECONDS: list[float] = []
_STEPS: dict[int, float] = {}
"""Since when each thread is in a step that may never end."""

EXIT_STUCK = 124
"""Exit code of a child of which a watched step did not end; ``timeout`` of coreutils has it too."""


@contextlib.contextmanager
def child_process(
    command: Sequence[str],
    *,
    stdout: int | None = subprocess.PIPE,
    stderr: int | None = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, which is ended with all that it has started.

    Its standard output is text in UTF-8, for the block to read; it gets no input, and what it
    says on standard error is dropped. ``stdout`` and ``stderr`` are otherwise as Popen's.

    Raises:
        OSError: it cannot be started.
    """
    child = subprocess.Popen(  # noqa: S603 - commands are made by this package
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        encoding="utf-8",
        errors="replace",
        # Ctrl-C goes to a terminal's whole group: this one ends by our hand, after our one line.
        start_new_session=True,
    )
    try:
        with undone(lambda: _end_group(child)):
            yield child
    finally:
        _end_group(child)
        child.wait()
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()


def _end_group(child: subprocess.Popen[str]) -> None:
    if child.returncode is not None:
        return  # its number may be another process's by now
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


def guard() -> None:
    """Called by a child whose end is told in words by whoever started it."""
    _GUARDED.append(True)


def guarded() -> bool:
    """Whether this process is such a child: it may run what might end it."""
    return bool(_GUARDED)


def end_when_stuck(seconds: float) -> None:
    """Called by a guarded child: end it when one step takes longer; ``was_stuck`` knows its end."""
    _MOST_SECONDS.append(seconds)
    threading.Thread(target=_end_when_stuck, args=(seconds,), daemon=True).start()


def was_stuck(code: int) -> bool:
    """Whether this is the exit code of a child of which one step did not end."""
    return code == EXIT_STUCK or (hasattr(signal, "SIGALRM") and code == -signal.SIGALRM)


@contextlib.contextmanager
def watched_step() -> Iterator[None]:
    """What may never come back: a graph of somebody else's that is loaded or run."""
    thread = threading.get_ident()
    _STEPS[thread] = time.monotonic()
    _alarm_after(_MOST_SECONDS)
    try:
        yield
    finally:
        _STEPS.pop(thread, None)
        if not _STEPS:
            _alarm_after([0.0] if _MOST_SECONDS else [])


def _alarm_after(seconds: Sequence[float]) -> None:
    """Let the system end this process: a library that never lets Python have a turn stops the
    thread that looks as well. 0 takes it back."""
    if seconds and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds[0] + _LOOK_SECONDS * (seconds[0] > 0))


def _end_when_stuck(seconds: float) -> None:
    while True:
        time.sleep(_LOOK_SECONDS)
        if any(time.monotonic() - began > seconds for began in list(_STEPS.values())):
            os._exit(EXIT_STUCK)


def end_with_parent(parent: int) -> None:
    """Called by a child: end it as soon as the process with the number ``parent`` has ended.

    Linux does so at once, whatever the child is computing; elsewhere a thread looks.
    """
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)  # it had ended before this was asked for


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
