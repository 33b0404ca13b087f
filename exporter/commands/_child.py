"""Commands that look at a stranger's file do so in a process of their own.

    parent                                     child
    imports little, starts the command     ->  does it: opens, runs and cuts the file
    watches its memory, hands on its words     ends with its exit code, or is ended;
                                               one run of a graph that never ends ends it

A file that crashes onnxruntime, in whatever session or window of it, is then a sentence; one that
takes all memory is stopped before the machine is.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TextIO

import click

from exporter.core.children import (
    child_process,
    end_when_stuck,
    end_with_parent,
    guard,
    guarded,
    was_stuck,
)
from exporter.core.memory import resident_bytes

_ROOT = Path(__file__).resolve().parents[2]
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from exporter.commands import _child; "
_CODE += "_child.become(int(sys.argv[2])); from exporter.cli import main; "
_CODE += "sys.exit(main(sys.argv[3:]))"
_LOOK_SECONDS = 0.1


def in_a_child(*paths: Path) -> int | None:
    """Do the command that is being done in a child, and return its exit code.

    Returns:
        None where it has to be done here: this is that child, nobody knows the command's words, or
        this program has made all of ``paths`` itself.

    Raises:
        ArtifactError: the child died, or came to a limit. UserInputError: a limit is none.
    """
    words = click.get_current_context().find_root().obj
    if guarded() or not isinstance(words, Words) or _all_own(paths):
        return None
    return _watched(words.arguments, paths)


class Words:
    """What was typed, kept in click's context."""

    def __init__(self, arguments: Sequence[str]):
        self.arguments = tuple(arguments)


def become(parent: int) -> None:
    """Called by the child, before it does the same command once more."""
    from exporter.execution.trial import Limits, no_core_dump

    no_core_dump()
    end_with_parent(parent)
    guard()
    end_when_stuck(Limits.of_this_machine().step_seconds)


def _all_own(paths: Sequence[Path]) -> bool:
    from exporter.core.errors import ArtifactError
    from exporter.graph.certificate import is_own

    try:
        return all(is_own(path) for path in paths)
    except ArtifactError:
        return False  # what is wrong with it is said by whoever opens it, after the command's words


def _watched(arguments: Sequence[str], paths: Sequence[Path]) -> int:
    from exporter.execution.trial import Limits, stopped

    limits = Limits.of_this_machine()
    command = [sys.executable, "-P", "-c", _CODE, str(_ROOT), str(os.getpid()), *arguments]
    place = ", ".join(str(path) for path in paths)  # nobody can tell which of them
    with _streams() as (streams, pump), child_process(command, **streams) as running:
        pump(running)
        while True:
            try:
                code = running.wait(timeout=_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                taken = resident_bytes(running.pid) or 0
                if limits.bytes is not None and taken > limits.bytes:
                    raise stopped(place, limits=limits) from None
    if was_stuck(code):
        raise stopped(place, limits=limits, stuck=True)
    if code < 0:
        raise stopped(place, signal_number=-code)
    return code


@contextlib.contextmanager
def _streams() -> Iterator[tuple[dict[str, int | None], Callable[[subprocess.Popen[str]], None]]]:
    """The child's streams: this process's own, or pipes whose text is written into what stands in
    their place (a test's, a notebook's)."""
    theirs = {"stdout": sys.stdout, "stderr": sys.stderr}
    given = {name: None if _is_real(s) else subprocess.PIPE for name, s in theirs.items()}
    threads: list[threading.Thread] = []

    def pump(running: subprocess.Popen[str]) -> None:
        for name, stream in theirs.items():
            pipe = getattr(running, name)
            if pipe is not None:
                thread = threading.Thread(target=_copy, args=(pipe, stream), daemon=True)
                thread.start()
                threads.append(thread)

    sys.stdout.flush()
    sys.stderr.flush()
    yield given, pump
    for thread in threads:
        thread.join(timeout=10)


def _is_real(stream: TextIO) -> bool:
    try:
        return stream.fileno() in (1, 2)
    except (io.UnsupportedOperation, ValueError, AttributeError):
        return False


def _copy(pipe: IO[str], stream: TextIO) -> None:
    with contextlib.suppress(ValueError):  # it was closed: the child was ended
        for line in pipe:
            stream.write(line)
