"""Keeps tests honest: no network, and no file outside of the temporary folder.

Both are watched with an audit hook (PEP 578), which sees what Python code opens, whoever calls
it. A test that tries is stopped there, and fails even if the code under test swallowed the error.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from exporter.cache.place import FOLDER_VARIABLE
from tests.support.tiny_run import tiny_run as tiny_run  # a fixture for everyone

try:
    import hypothesis
except ImportError:  # said by the tests that need it
    hypothesis = None

_WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATH_EVENTS = {
    "os.link": ((1,), (3,)),
    "os.mkdir": ((0,), (2,)),
    "os.remove": ((0,), (1,)),
    "os.rename": ((0, 1), (2, 3)),
    "os.rmdir": ((0,), (1,)),
    "os.symlink": ((1,), (2,)),
    "os.truncate": ((0,), ()),
    "shutil.rmtree": ((0,), ()),
}
"""Audit events that change files -> which arguments are changed paths, which are folder fds."""
# Compiled files of Python and numba lie beside their sources; pytest keeps its own cache.
_ALLOWED_PARTS = frozenset({"__pycache__", ".pytest_cache"})
_ALLOWED_ROOTS = [Path("/dev"), Path("/proc")]


@dataclass(slots=True)
class Guard:
    """What the audit hook enforces while a test runs."""

    active: bool = False
    roots: list[Path] = field(default_factory=lambda: list(_ALLOWED_ROOTS))
    tried: list[str] = field(default_factory=list)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Refuse an event, if it is one of those that a test must not cause."""
        if not self.active:
            return
        if event == "open":
            path, mode, flags = args
            writes = any(letter in mode for letter in "wax+") if mode else flags & _WRITING_FLAGS
            if writes:
                self._check_path(path)
        elif event in _PATH_EVENTS:
            paths, folders = _PATH_EVENTS[event]
            if any(args[index] >= 0 for index in folders):
                return  # relative to an open folder: a deletion of a tree that began at a path
            for index in paths:
                self._check_path(args[index])
        elif event == "socket.connect":
            self._check_address(args[1])
        elif event == "socket.getaddrinfo":
            self._check_address((args[0],))

    def _check_path(self, path: Any) -> None:
        if isinstance(path, int):
            return
        # Not resolve(): a link that lies outside is itself what would be changed.
        absolute = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100
        if _ALLOWED_PARTS.intersection(absolute.parts):
            return
        if not any(absolute.is_relative_to(root) for root in self.roots):
            self._refuse(f"wrote outside of its temporary folder: {absolute}")

    def _check_address(self, address: Any) -> None:
        if isinstance(address, str | bytes):
            return  # a Unix socket
        host = address[0]
        host = host.decode() if isinstance(host, bytes) else host
        if host in (None, "", "localhost") or _is_loopback(host):
            return
        self._refuse(f"reached for the network: {host}")

    def _refuse(self, what: str) -> None:
        self.tried.append(what)
        raise PermissionError(f"a test {what}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


GUARD = Guard()


def pytest_configure() -> None:
    """Install the hook once per process; it sleeps until a test starts."""
    sys.addaudithook(GUARD)
    # A shell that starts the tests in the background lets them ignore these, and so would every
    # program that a test starts and means to end.
    for number, default in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)
    if hypothesis is not None:
        # The same examples in every run; nothing is remembered between runs.
        hypothesis.settings.register_profile(
            "repository",
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],
        )
        hypothesis.settings.load_profile("repository")


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """``tempfile`` and child processes use pytest's folder too."""
    base = tmp_path_factory.getbasetemp()
    # Workers share the folder above their own: a test may put there what is made once for all.
    GUARD.roots.append(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)
    if hypothesis is not None:
        hypothesis.configuration.set_hypothesis_home_dir(base / "hypothesis")
    folder = tmp_path_factory.mktemp("tmp")
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    # A test that puts something wrong into a stage must not meet what another one exported, nor
    # leave it to anyone: who wants a cache names its folder.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        # torch keeps where it was asked first, which may be while tests are collected.
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
        patch.setenv(FOLDER_VARIABLE, "off")
        yield
    tempfile.tempdir = before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Watch the test itself, and fail it for what it tried."""
    GUARD.active = True
    try:
        result = yield
    finally:
        GUARD.active = False
        tried = list(dict.fromkeys(GUARD.tried))
        GUARD.tried.clear()
    if tried:
        pytest.fail("\n".join(f"this test {what}" for what in tried), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Iterator[None]:
    """Watch fixtures too; what they try is an error of the test that needs them."""
    outer = GUARD.active
    # The fixture that names the temporary folder must run before there is one.
    GUARD.active = len(GUARD.roots) > len(_ALLOWED_ROOTS)
    try:
        return (yield)
    finally:
        GUARD.active = outer
