"""A lock ends with its process, on file systems with locks and on those without."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import filelock._unix
import pytest
from filelock._identity import host_name, process_start_token

from exporter.core.lock import OWNED, locked

_HOLD = """
import sys
import filelock._unix
from pathlib import Path
from exporter.core.lock import locked
number = int(sys.argv[2])
if number:
    def none(_):
        raise OSError(number, "no locks")
    filelock._unix.lock_fd_nonblocking = none
with locked(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""
_NONE = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]


def _holder(path: Path, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLD, str(path), str(number)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "True\n"
    return child


def _without_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def none(_: int) -> bool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock._unix, "lock_fd_nonblocking", none)


def test_a_second_one_waits_and_gets_it(tmp_path: Path):
    path, got = tmp_path / "a.lock", threading.Event()

    def second() -> None:
        with locked(path, wait=20) as mine:
            assert mine
            got.set()

    with locked(path) as mine:
        assert mine
        thread = threading.Thread(target=second)
        thread.start()
        assert not got.wait(0.3)
    thread.join(20)
    assert got.is_set()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [0, *_NONE])
def test_another_process_is_kept_out_until_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    path = tmp_path / "a.lock"
    child = _holder(path, number)
    if number:
        _without_locks(monkeypatch, number)
    with locked(path, wait=0.2) as mine:
        assert not mine
    child.send_signal(signal.SIGKILL)
    child.wait()
    with locked(path, wait=20) as mine:
        assert mine


def _state(path: Path, pid: int, host: str, start: int | None) -> None:
    lines = [str(pid), host, *([] if start is None else [str(start)])]
    path.with_name(path.name + OWNED).write_text("\n".join(lines) + "\n")


def test_a_process_number_that_is_used_again_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _without_locks(monkeypatch, errno.ENOLCK)
    start = process_start_token(os.getppid())
    assert start is not None
    path = tmp_path / "a.lock"
    _state(path, os.getppid(), host_name(), start)
    with locked(path, wait=0.3) as mine:
        assert not mine  # this very process is alive
    _state(path, os.getppid(), host_name(), start - 1)
    with locked(path, wait=5) as mine:
        assert mine


def test_a_clock_that_goes_back_frees_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _without_locks(monkeypatch, errno.ENOLCK)
    path = tmp_path / "a.lock"
    child = _holder(path, errno.ENOLCK)
    held = path.with_name(path.name + OWNED)
    for seconds in (0, 4_000_000_000):  # long ago, and in the future
        os.utime(held, (seconds, seconds))
        with locked(path, wait=0.3) as mine:
            assert not mine
    child.kill()
    child.wait()
    with locked(path, wait=20) as mine:
        assert mine


def test_what_another_host_holds_stays_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _without_locks(monkeypatch, errno.ENOLCK)
    path = tmp_path / "a.lock"
    _state(path, 2**22 + 1, "another-host", 1)
    with locked(path, wait=0.3) as mine:
        assert not mine
    path.with_name(path.name + OWNED).unlink()
    with locked(path) as mine:
        assert mine


def test_a_lock_file_that_was_left_behind_is_free(tmp_path: Path):
    path = tmp_path / "a.lock"
    path.write_text("something")
    with locked(path) as mine:
        assert mine
