"""Children that look at a stranger's file, as copies of a process that has all libraries loaded.

A command of a user starts Python for it, which imports for seconds: a sweep of thousands would do
little else. Here a process that has imported everything, and has done nothing, is copied instead;
the copy executes the code that Python would have been started with.

    reader, or a copy                    server: one thread, no session of onnxruntime
    code, words, folder, two streams ->  forks; the copy becomes what the code says
    watches it as it would a child   <-  its number; its exit code when it has ended
    wants it ended, or ends itself   ->  ends the copy's whole group

Limits of memory and time, and what is said when one is met, are those of the program: only the
start is another one.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from exporter.commands import _child
from exporter.core.children import end_with_parent
from exporter.execution import trial

_MOST_BYTES = 1 << 18


class Forked:
    """A copy; the part of ``Popen`` that is used of it."""

    def __init__(self, held: socket.socket, stdout: int | None, stderr: int | None):
        self.held = held
        self.pid = int(held.recv(_MOST_BYTES))
        self.returncode: int | None = None
        self.stdout, self.stderr = _text(stdout), _text(stderr)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, of which the negative is a signal.

        Raises:
            subprocess.TimeoutExpired: it has not ended within ``timeout`` seconds.
        """
        if self.returncode is None:
            self.held.settimeout(timeout)
            try:
                told = self.held.recv(_MOST_BYTES)
            except TimeoutError:
                raise subprocess.TimeoutExpired("forked", timeout or 0) from None
            except ConnectionResetError:  # it ended as its end was asked for
                told = b""
            self.returncode = int(told) if told else -signal.SIGKILL
        return self.returncode

    def end(self) -> None:
        """End it and all that it has started."""
        if self.returncode is None:
            with contextlib.suppress(OSError):
                self.held.send(b"end")
            self.wait()
        self.held.close()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()


@dataclass(frozen=True, slots=True)
class _Copy:
    """What the server knows of one."""

    pid: int
    ended: int
    asked: socket.socket


def start() -> None:
    """Let children that Python would be started for be forked from a copy of this process.

    Called where Python has one thread, all that they need is imported, and nothing has been done
    with it. (onnxruntime starts a thread of its own as it is loaded, which waits.)
    """
    if threading.active_count() > 1:
        raise RuntimeError("a process with threads is not copied: they may hold locks")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    address = f"\0forked-{os.getpid()}"
    listening.bind(address)
    listening.listen(64)
    for module in (_child, trial):
        module.child_process = partial(_forked, address)  # type: ignore[attr-defined]
        # The number in the words is of whoever asked; a copy's parent is the server.
        module.end_with_parent = _end_with_server  # type: ignore[attr-defined]
    gc.collect()
    gc.freeze()  # a collection would write to every page that is shared
    parent = os.getpid()
    if os.fork() == 0:
        end_with_parent(parent)
        _serve(listening)
    listening.close()


def _end_with_server(_: int) -> None:
    end_with_parent(os.getppid())


@contextlib.contextmanager
def _forked(
    address: str,
    command: Sequence[str],
    *,
    stdout: int | None = subprocess.PIPE,
    stderr: int | None = subprocess.DEVNULL,
) -> Iterator[Forked]:
    """In the place of ``exporter.core.children.child_process``."""
    python, _, option, code, *words = command
    if (python, option) != (sys.executable, "-c"):
        raise ValueError(f"no copy of this process does {command}")
    held = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    held.connect(address)
    said: list[int | None] = []
    given: list[int] = []
    for wanted, own in ((stdout, 1), (stderr, 2)):
        read, write = os.pipe() if wanted == subprocess.PIPE else (None, os.dup(own))
        if wanted == subprocess.DEVNULL:
            os.close(write)
            write = os.open(os.devnull, os.O_WRONLY)
        said.append(read)
        given.append(write)
    job = {"code": code, "words": words, "folder": str(Path.cwd())}
    socket.send_fds(held, [json.dumps(job).encode()], given)
    for number in given:
        os.close(number)
    child = Forked(held, *said)
    try:
        yield child
    finally:
        child.end()


def _text(number: int | None) -> IO[str] | None:
    return None if number is None else os.fdopen(number, encoding="utf-8", errors="replace")


def _serve(listening: socket.socket) -> None:
    chosen = selectors.DefaultSelector()
    chosen.register(listening, selectors.EVENT_READ, partial(_begin, chosen, listening))
    while True:
        for key, _ in chosen.select():
            if chosen.get_map().get(key.fd) is key:  # it may have ended in this round
                key.data()


def _begin(chosen: selectors.BaseSelector, listening: socket.socket) -> None:
    asked, _ = listening.accept()
    text, given, _, _ = socket.recv_fds(asked, _MOST_BYTES, 2)
    pid = os.fork()
    if pid == 0:
        chosen.close()
        listening.close()
        asked.close()
        _become(json.loads(text), *given)
    for number in given:
        os.close(number)
    copy = _Copy(pid, os.pidfd_open(pid), asked)
    chosen.register(copy.ended, selectors.EVENT_READ, partial(_ended, chosen, copy))
    chosen.register(asked, selectors.EVENT_READ, partial(_end, chosen, copy))
    asked.send(str(pid).encode())


def _end(chosen: selectors.BaseSelector, copy: _Copy) -> None:
    """Whoever asked for it wants it no more, or has ended."""
    chosen.unregister(copy.asked)
    copy.asked.recv(_MOST_BYTES)  # what stays unread is an error for the other side
    for how in (os.killpg, os.kill):  # it may not have its group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            how(copy.pid, signal.SIGKILL)


def _ended(chosen: selectors.BaseSelector, copy: _Copy) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(copy.pid, 0)[1])
    chosen.unregister(copy.ended)
    os.close(copy.ended)
    if copy.asked in chosen.get_map():
        chosen.unregister(copy.asked)
    with contextlib.suppress(OSError):
        copy.asked.send(str(code).encode())
    copy.asked.close()


def _become(job: dict[str, Any], stdout: int, stderr: int) -> None:
    """In the copy: what ``python -c CODE WORDS...`` does. Never returns."""
    code: Any = 1
    try:
        os.setsid()
        for number, place in ((os.open(os.devnull, os.O_RDONLY), 0), (stdout, 1), (stderr, 2)):
            os.dup2(number, place)
            os.close(number)
        # Streams are made for what they lead to: a file can be sought in, a pipe cannot.
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(
            2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        os.chdir(job["folder"])
        sys.argv = ["-c", *job["words"]]
        code = _code_of(lambda: exec(job["code"], {"__name__": "__main__"}))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _code_of(call: Callable[[], object]) -> int:
    try:
        call()
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001 - Python's own end of it
        traceback.print_exc()
        return 1
    return 0
