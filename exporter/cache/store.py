"""Entries by key: taken, put, bounded. Safe where several runs share it, and where one is killed.

    <root>/entries/<key>/      whole entries, moved here in one step
    <root>/parts/<name>/       entries that are being written, or taken away; never read
    <root>/locks/              one per entry and per part; see ``exporter.core.lock``

Nobody waits for a run that makes the same: both do the work, the first one to end stores it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exporter.cache.copying import place
from exporter.cache.entry import (
    PROOFS,
    CachedFile,
    DamagedEntryError,
    Entry,
    read_entry,
    sealed,
    unsealed,
    write_manifest,
)
from exporter.cache.place import cache_folder, cache_size
from exporter.core.artifact import sha256_of
from exporter.core.files import write_text
from exporter.core.lock import locked

_KEY = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{12}\.[0-9a-f]{16}")
_LONGEST = 600.0
"""Seconds to wait for whoever reads or moves an entry; then it is as if there were none."""
_TAG = "CACHEDIR.TAG"
# https://bford.info/cachedir/: programs that make backups leave such folders out.
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What came of looking for a key: an entry, or why there is none to be used."""

    entry: Entry | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """What was taken away, and how many entries are in use and stayed."""

    entries: int
    bytes: int
    in_use: int


class Store:
    """A cache folder.

    Args:
        root: made when something is stored. limit: bytes that all entries may take.
    """

    def __init__(self, root: Path, limit: int):
        self.root = root
        self.limit = limit

    def take(self, key: str, folder: Path) -> Taken:
        """Put the files of an entry into ``folder``, after checking every one of them.

        An entry that is not what was stored is thrown away, and the problem says so.

        Raises:
            OSError: ``folder`` cannot be written to.
        """
        if not self._entry(key).is_dir():
            return Taken()
        with self._held(key) as mine:
            if not mine or not self._entry(key).is_dir():
                return Taken()
            try:
                entry = read_entry(self._entry(key))
                entry.check()
            except DamagedEntryError as error:
                problem = f"the cached entry {key[:12]} was thrown away: {error}"
            else:
                graphs = {name for name in entry.files if name.endswith(".onnx")}
                # At no moment may a graph lie there with weights that are not its own.
                for name in graphs:
                    (folder / name).unlink(missing_ok=True)
                for name in sorted(entry.files, key=lambda name: name in graphs):
                    place(entry.folder / name, folder / name)
                entry.touch()
                return Taken(entry=entry)
        self._remove(key)
        return Taken(problem=problem)

    def put(
        self,
        key: str,
        folder: Path,
        names: list[str],
        *,
        parts: Mapping[str, str],
        label: str,
        facts: Mapping[str, Any],
        digests: Mapping[str, str],
    ) -> Entry | str:
        """Store files of ``folder``; returns the entry, or why it was not stored.

        Args:
            names: relative paths. parts: what ``key`` is the ``key_of``.
            label, facts: see ``Entry``.
            digests: sha256 of the files where it is known; the others are read for it.

        Raises:
            OSError: the cache folder cannot be written to.
        """
        size = sum((folder / name).stat().st_size for name in names)
        if size > self.limit:
            return (
                f"{size / 1e9:.1f} GB is more than the cache may hold ({self.limit / 1e9:.1f} GB)"
            )
        self._prepare()
        with self._part(key) as part:
            for name in names:
                place(folder / name, part / name)
            unknown = [name for name in names if name not in digests]
            with ThreadPoolExecutor(2) as pool:
                read = pool.map(lambda name: sha256_of(part / name), unknown)
                digests_read = dict(zip(unknown, read, strict=True))
            files = {
                name: CachedFile(
                    sha256={**digests, **digests_read}[name], bytes=(part / name).stat().st_size
                )
                for name in names
            }
            entry = Entry(
                folder=part,
                key=key,
                parts=parts,
                made=datetime.now(UTC).isoformat(timespec="seconds"),
                label=label,
                files=files,
                facts=facts,
            )
            write_manifest(entry)
            self._move_in(key, part)
        self.trim(keep=key)
        try:
            return read_entry(self._entry(key))
        except DamagedEntryError as error:
            return f"the entry {key[:12]} cannot be read again: {error}"

    def entries(self) -> list[Entry]:
        """All that can be read, the one used last first."""
        listed = []
        for key in self._keys():
            with contextlib.suppress(DamagedEntryError, FileNotFoundError):
                entry = read_entry(self._entry(key))
                listed.append((entry.used, entry))
        return [entry for _, entry in sorted(listed, key=lambda item: -item[0])]

    def trim(self, keep: str = "") -> None:
        """Take away what was not used for longest until the rest is within the limit.

        Entries in use stay, and ``keep``; what killed runs left goes.
        """
        self._sweep()
        readable = self.entries()
        for key in set(self._keys()) - {entry.key for entry in readable}:
            self._remove(key, wait=False)
        total = sum(entry.bytes for entry in readable)
        for entry in reversed(readable):
            if total <= self.limit:
                return
            if entry.key != keep and self._remove(entry.key, wait=False):
                total -= entry.bytes

    def clear(self) -> Cleared:
        """Take everything away that is not in use."""
        sizes = {entry.key: entry.bytes for entry in self.entries()}
        gone = [key for key in self._keys() if self._remove(key, wait=False)]
        self._sweep()
        return Cleared(
            entries=len(gone),
            bytes=sum(sizes.get(key, 0) for key in gone),
            in_use=len(self._keys()),
        )

    def write_proof(self, key: str, name: str, content: Mapping[str, Any]) -> None:
        """Keep ``content`` with an entry; does nothing where the entry has gone meanwhile."""
        if not self._entry(key).is_dir():
            return
        with self._held(key) as mine:
            if not mine or not self._entry(key).is_dir():
                return
            target = self._proof(key, name)
            target.parent.mkdir(exist_ok=True)
            write_text(target, sealed(content))

    def read_proof(self, key: str, name: str) -> dict[str, Any] | None:
        """What ``write_proof`` kept; None where there is nothing, or not what was kept."""
        try:
            return unsealed(self._proof(key, name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, DamagedEntryError):
            return None

    # -- the folder ------------------------------------------------------------------------

    def _entry(self, key: str) -> Path:
        return self.root / "entries" / key

    def _proof(self, key: str, name: str) -> Path:
        return self._entry(key) / PROOFS / f"{name}.json"

    def _lock(self, name: str) -> Path:
        return self.root / "locks" / name

    def _held(self, key: str, *, wait: bool = True) -> contextlib.AbstractContextManager[bool]:
        """Hold an entry while it is read, moved in or taken away."""
        path = self._lock(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return locked(path, wait=_LONGEST if wait else 0.0, kept=True)

    def _keys(self) -> list[str]:
        folder = self.root / "entries"
        if not folder.is_dir():
            return []
        # Only what bears the name of an entry is ours to take away.
        return sorted(path.name for path in folder.iterdir() if _KEY.fullmatch(path.name))

    def _prepare(self) -> None:
        for name in ("entries", "parts", "locks"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        tag = self.root / _TAG
        if not tag.exists():
            write_text(tag, _SIGNATURE)

    @contextlib.contextmanager
    def _part(self, key: str) -> Iterator[Path]:
        """A folder to write in; it goes when the block ends, unless it was moved away."""
        name = f"{key[:12]}.{secrets.token_hex(8)}"
        folder = self.root / "parts" / name
        with locked(self._lock(name)):
            try:
                folder.mkdir(parents=True)
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _move_in(self, key: str, part: Path) -> None:
        with self._held(key) as mine:
            if mine and not self._entry(key).exists():
                os.replace(part, self._entry(key))
                return
        # Another run stored the same meanwhile; what it stored was checked as ours was.

    def _remove(self, key: str, *, wait: bool = True) -> bool:
        """Take an entry away, in one step for everybody else; False when it is in use."""
        with self._held(key, wait=wait) as mine, self._part(key) as part:
            if not mine:
                return False
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._entry(key), part / "gone")
        return True

    def _sweep(self) -> None:
        """Take away parts whose writers are gone."""
        folder = self.root / "parts"
        for path in list(folder.iterdir()) if folder.is_dir() else []:
            if not _PART.fullmatch(path.name):
                continue
            with locked(self._lock(path.name)) as mine:
                if mine:
                    shutil.rmtree(path, ignore_errors=True)


def open_store() -> Store | None:
    """The user's cache; None where it is switched off.

    Raises:
        UserInputError: the environment gives a size that is none.
    """
    folder = cache_folder()
    return None if folder is None else Store(folder, cache_size())
