"""What a factory used while it built and ran: files, modules, variables of the environment.

The same code and the same weights are another model when a table was read from another file, or a
variable chose another path. Python tells of every file that it opens and every module that it
imports; reads of the environment are noted when they come from the user's own code.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

_INSTALLED = ("site-packages", "dist-packages")
_OURS = Path(__file__).resolve().parents[1]
_NOT_THE_USERS = (
    _OURS,
    Path(torch.__file__ or "").resolve().parent,
    *(Path(path).resolve() for path in {*map(sysconfig.get_path, ("stdlib", "platstdlib"))}),
    *map(Path, ("/proc", "/sys", "/dev", "/etc")),
)
_ENVIRONMENT_FILES = ("os.py", "_collections_abc.py", "<frozen os>", "<frozen _collections_abc>")
_WRITING = os.O_WRONLY | os.O_RDWR


@dataclass(slots=True, kw_only=True)
class Used:
    """What was seen: paths that were read and that were written, names of modules, of variables."""

    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)

    def add(self, other: Used) -> None:
        """Take what another one saw as well."""
        for name in ("read", "written", "modules", "variables"):
            getattr(self, name).update(getattr(other, name))

    def digest(self, code: Iterable[str]) -> str:
        """sha256 over the present contents of all of it; "" when there is nothing.

        Names of folders do not count: a project that was copied elsewhere is the same.

        Args:
            code: names of modules whose files are counted already.
        """
        modules = imported(code) | {name for name in self.modules if _is_users(_file_of(name))}
        lines = [f"module {name} {_sha256(_file_of(name))}" for name in modules - set(code)]
        files = filter(_is_users, self.read - self.written)
        lines += [f"file {Path(path).name} {_sha256(path)}" for path in files]
        # repr: a variable that is not set is not one that is empty.
        lines += [f"variable {name} {os.environ.get(name)!r}" for name in self.variables]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() if lines else ""


_listening: list[Used] = []
_seen: dict[str, Used] = {}
"""What earlier blocks of this process saw, by target: a module that is imported once opens its
files once."""


@contextlib.contextmanager
def recorded(target: str) -> Iterator[Used]:
    """Note what is used while the block runs.

    Args:
        target: what is built; what an earlier block saw for it counts again.
    """
    _install()
    used = _seen.setdefault(target, Used())
    now = Used()
    before = set(sys.modules)
    _listening.append(now)
    try:
        with _noting_variables(now):
            yield used
    finally:
        _listening.remove(now)
        now.modules |= set(sys.modules) - before
        # Modules count as such; torch also opens the files of whoever called it, for its traces.
        now.read -= {_file_of(name) for name in list(sys.modules)}
        used.add(now)


@functools.cache
def _install() -> None:
    """Audit hooks cannot be taken away again: there is one, and it is idle between blocks."""
    sys.addaudithook(_heard)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _listening:
        return
    path, mode, flags = arguments
    if not isinstance(path, str | os.PathLike):
        return
    text = os.path.abspath(os.fspath(path))  # noqa: PTH100 - opens no link
    if not isinstance(text, str) or text.endswith(".pyc"):
        return
    writes = any(c in mode for c in "wax+") if isinstance(mode, str) else bool(flags & _WRITING)
    for used in _listening:
        (used.written if writes else used.read).add(text)


@contextlib.contextmanager
def _noting_variables(used: Used) -> Iterator[None]:
    kind = type(os.environ)
    real = kind.__getitem__

    def noted(environment: Any, key: Any) -> Any:
        if isinstance(key, str) and _asked_by_user(sys._getframe(1)):
            used.variables.add(key)
        return real(environment, key)

    kind.__getitem__ = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        kind.__getitem__ = real  # type: ignore[method-assign]


def _asked_by_user(frame: Any) -> bool:
    while frame is not None and frame.f_code.co_filename.endswith(_ENVIRONMENT_FILES):
        frame = frame.f_back
    return frame is not None and _is_users(frame.f_code.co_filename)


@functools.lru_cache(maxsize=4096)
def _is_users(file: str) -> bool:
    """True for a file of neither Python, an installed package nor this one."""
    if not file or file.startswith("<"):
        return False
    path = Path(file).resolve()
    if any(part in _INSTALLED for part in path.parts):
        return False
    return not any(path.is_relative_to(place) for place in _NOT_THE_USERS)


def imported(names: Iterable[str]) -> set[str]:
    """The user's loaded modules that these import, at any depth and anywhere in their text."""
    modules: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in modules or not _is_users(_file_of(name)):
            continue
        modules.add(name)
        waiting += _imports(name, _file_of(name))
    return modules


def _imports(name: str, file: str) -> Iterator[str]:
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    package = getattr(sys.modules.get(name), "__package__", "") or ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            texts = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            texts = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for text in texts:
            parts = text.split(".")
            # A package's own file runs when a module inside of it is imported.
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _base(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    try:
        return importlib.util.resolve_name("." * node.level + (node.module or ""), package)
    except ImportError:
        return ""


def _file_of(name: str) -> str:
    # From its dictionary: asking a lazy module for an attribute imports what it stands for.
    file = getattr(sys.modules.get(name), "__dict__", {}).get("__file__") or ""
    return os.path.abspath(file) if isinstance(file, str) and file else ""  # noqa: PTH100


def _sha256(file: str) -> str:
    try:
        at = Path(file).stat()
        return _sha256_at(file, at.st_size, at.st_mtime_ns, at.st_ino)
    except OSError:
        return "gone"


@functools.lru_cache(maxsize=1024)
def _sha256_at(file: str, size: int, modified: int, node: int) -> str:
    if not Path(file).is_file():
        return "no file"
    with Path(file).open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
