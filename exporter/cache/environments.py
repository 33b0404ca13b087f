"""Environments of other packages: made once, shared by whoever asks, bounded in size.

    <root>/<name>/                 a virtual environment, made by uv where it is there, else by pip
    <root>/<name>/ready            it is whole; its time is when it was last used
    <root>/<name>/users/HOST.PID   a process that runs in it now: it is not taken away
    <root>/<name>.lock             held by whoever makes it

What was not used for longest goes when there are too many, or they are too large.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

from exporter.cache.place import cache_size
from exporter.core.errors import UserInputError
from exporter.core.files import write_text
from exporter.core.lock import locked

MOST_KEPT = 32
"""Environments below one root. uv links the files that several have in common."""
FOLDER, READY = "environments", "ready"
_INSTALL_SECONDS, _WAIT_SECONDS, _FOREIGN_SECONDS = 1800, 1900, 86400
_USERS = "users"
_PYTHONS = (("bin", "python"), ("Scripts", "python.exe"))


def environment_name(requirements: Sequence[str], *, over: bool = False) -> str:
    """The name of an environment: what is asked for, by which Python, on which kind of machine."""
    said = [*sorted(requirements), platform.python_version(), platform.platform()]
    said += [f"over {sys.prefix}"] if over else []
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


@contextlib.contextmanager
def environment(
    root: Path, requirements: Sequence[str], name: str | None = None, *, over: bool = False
) -> Iterator[Path]:
    """The Python of an environment with these packages; it is kept while the block runs.

    Args:
        root: folder of environments; made if it is not there.
        requirements: as pip takes them; only wheels are installed.
        name: of its folder; a digest of the requirements by default.
        over: these packages alone, without what they need, in front of this Python's own.

    Raises:
        UserInputError: they cannot be installed, or another process did not end making it.
    """
    root.mkdir(parents=True, exist_ok=True)
    home = root / (name or environment_name(requirements, over=over))
    with locked(root / f"{home.name}.lock", wait=_WAIT_SECONDS, kept=True) as ours:
        if not ours:
            raise UserInputError(
                f"the environment of {requirements[0]} is in use for {_WAIT_SECONDS} s",
                where=str(root),
                remedy="wait for the other process, or end it",
            )
        python = _made(root, home, requirements, over)
        mark = _mark(home)
    try:
        yield python
    finally:
        mark.unlink(missing_ok=True)


def _made(root: Path, home: Path, requirements: Sequence[str], over: bool) -> Path:
    """The Python of the environment ``home``; it is made where it is not whole."""
    ready, python = home / READY, _python(home)
    if ready.is_file() and python is not None:
        ready.touch()
        return python
    shutil.rmtree(home, ignore_errors=True)
    make_room(root)
    try:
        failed = _install(home, requirements, over)
    except subprocess.TimeoutExpired:
        failed = f"the installation did not end within {_INSTALL_SECONDS} s"
    python = _python(home)
    if failed or python is None:
        shutil.rmtree(home, ignore_errors=True)
        raise UserInputError(
            f"{requirements[0].replace('==', ' ')} cannot be installed:"
            f" {failed or 'it has no Python'}",
            remedy="check the network and that there is such a release for this Python",
        )
    write_text(ready, json.dumps({"requirements": list(requirements)}, indent=1))
    return python


def _python(home: Path) -> Path | None:
    return next((p for p in (home.joinpath(*parts) for parts in _PYTHONS) if p.exists()), None)


def _install(home: Path, requirements: Sequence[str], over: bool) -> str:
    """Make an environment; what went wrong, or ""."""
    uv = uv_program()
    if uv is None:
        venv.create(home, with_pip=True)
        command = [str(_python(home)), "-m", "pip", "install", "--quiet"]
    else:
        made = started([uv, "venv", "--quiet", "--python", sys.executable, str(home)])
        if made.returncode:
            return last_line(made.stderr)
        command = [uv, "pip", "install", "--quiet", "--python", str(_python(home))]
    if over:
        _put_beneath(home)
        command.append("--no-deps")
    done = started([*command, "--only-binary=:all:", *requirements])
    if not done.returncode:
        return ""
    # uv breaks its sentences into lines; the one that says why is rarely the last.
    return " ".join(done.stderr.split())[-300:] if uv else last_line(done.stderr)


def _put_beneath(home: Path) -> None:
    """This Python's packages behind those of an environment."""
    at = {"base": str(home), "platbase": str(home)}
    folder = Path(sysconfig.get_path("purelib", "venv", vars=at))
    beneath = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    # By addsitedir: what was installed as a link to sources is found as well.
    lines = [f"import site; site.addsitedir({path!r})" for path in beneath]
    write_text(folder / "beneath.pth", "\n".join(lines) + "\n")


def uv_program() -> str | None:
    """Where uv is: on the path, or beside this Python."""
    beside = Path(sys.executable).with_name("uv")
    return shutil.which("uv") or (str(beside) if beside.exists() else None)


def make_room(root: Path) -> None:
    """Leave room for one more: the environments that were not used for longest go.

    One that a living process runs in stays, even if all of them together are then too large.
    """
    made = sorted(root.glob(f"*/{READY}"), key=_time_of)
    sizes = {ready: _bytes(ready.parent) for ready in made}
    count, total = len(made), sum(sizes.values())
    for ready in made:
        if count < MOST_KEPT and total <= cache_size():
            return
        home = ready.parent
        with locked(root / f"{home.name}.lock", kept=True) as ours:
            if ours and not _in_use(home):
                shutil.rmtree(home, ignore_errors=True)
                count, total = count - 1, total - sizes[ready]


def _time_of(path: Path) -> float:
    """When it was last written; 0 where another process has just taken it away."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _bytes(home: Path) -> int:
    """What an environment takes that no other one shares; a link counts by its share."""
    total = 0.0
    for folder, _, names in os.walk(home):
        for name in names:
            with contextlib.suppress(OSError):
                state = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - tens of thousands
                total += state.st_size / max(1, state.st_nlink - 1)
    return int(total)


def _mark(home: Path) -> Path:
    users = home / _USERS
    users.mkdir(exist_ok=True)
    mark = users / f"{platform.node()}.{os.getpid()}.{time.monotonic_ns()}"
    write_text(mark, "")
    return mark


def _in_use(home: Path) -> bool:
    """Whether somebody runs in it. Of another host's process only the time of its mark is known."""
    for mark in (home / _USERS).glob("*.*.*"):
        host, process, _ = mark.name.rsplit(".", 2)
        if host == platform.node():
            if process.isdigit() and _runs(int(process)):
                return True
        elif time.time() - _time_of(mark) < _FOREIGN_SECONDS:
            return True
    return False


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def started(command: list[str], seconds: float = _INSTALL_SECONDS) -> subprocess.CompletedProcess:
    """Run a command to its end, without input; what it says is kept.

    Raises:
        subprocess.TimeoutExpired: it does not end in time.
    """
    return subprocess.run(  # noqa: S603 - commands are made by this package
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )


def last_line(text: str) -> str:
    """The last line that says something, cut to a length that fits a sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
