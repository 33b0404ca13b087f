"""One entry of the cache: a folder of files, and a manifest that says what each of them must be.

<key>/manifest.json     written last; an entry without it is none
<key>/exported.onnx     ...
<key>/proofs/<key>.json what was proved of these very files, see ``exporter.proof``
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from exporter.core.artifact import sha256_of
from exporter.core.files import write_text

FORMAT = 1
MANIFEST = "manifest.json"
PROOFS = "proofs"
_HASHING_THREADS = 2
_SAVED = ("key", "parts", "made", "label", "files", "facts")
"""What a manifest holds of its entry."""


class DamagedEntryError(Exception):
    """An entry that cannot be what was stored; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFile:
    """What a file of an entry must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A stored result.

    Attributes:
        folder: where it lies. key: sha256 of ``parts``.
        parts: what the key was made of, by name; for saying what has changed since.
        made: when, ISO 8601 in UTC. label: of what, for people.
        files: relative path -> what the file must be.
        facts: what the making stages said, as JSON values.
    """

    folder: Path
    key: str
    parts: Mapping[str, str]
    made: str
    label: str
    files: Mapping[str, CachedFile]
    facts: Mapping[str, Any]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files.values())

    @property
    def used(self) -> float:
        """When it was last stored or taken, in seconds of the epoch."""
        return (self.folder / MANIFEST).stat().st_mtime

    @property
    def used_at(self) -> str:
        """The same as ISO 8601 in UTC."""
        return datetime.fromtimestamp(self.used, UTC).isoformat(timespec="seconds")

    def touch(self) -> None:
        """Make it the one that was used last."""
        os.utime(self.folder / MANIFEST)

    def check(self) -> None:
        """Read every file and compare its digest with the manifest's.

        Raises:
            DamagedEntryError: a file is missing, or is not the one that was stored.
        """
        with ThreadPoolExecutor(_HASHING_THREADS) as pool:
            # The largest first: two threads then end at about the same time.
            names = sorted(self.files, key=lambda name: -self.files[name].bytes)
            digests = dict(zip(names, pool.map(self._digest, names), strict=True))
        wrong = [name for name in self.files if digests[name] != self.files[name].sha256]
        if wrong:
            raise DamagedEntryError(f"{', '.join(wrong)} is not the file that was stored")

    def _digest(self, name: str) -> str:
        path = self.folder / name
        try:
            # A file that grew or was cut need not be read.
            same_size = path.stat().st_size == self.files[name].bytes
            return sha256_of(path) if same_size else "another size"
        except OSError as error:
            raise DamagedEntryError(f"{name} cannot be read ({error.strerror})") from error


def key_of(parts: Mapping[str, str]) -> str:
    """sha256 over names and values."""
    return hashlib.sha256(canonical(dict(parts)).encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON in one form only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def sealed(content: Mapping[str, Any]) -> str:
    """JSON text of an object that also states its own sha256."""
    seal = hashlib.sha256(canonical(dict(content)).encode()).hexdigest()
    return json.dumps({**content, "seal": seal}, indent=1, sort_keys=True)


def unsealed(text: str) -> dict[str, Any]:
    """What ``sealed`` wrote.

    Raises:
        DamagedEntryError: it is no such text, or was edited.
    """
    try:
        content = json.loads(text)
        seal = content.pop("seal")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedEntryError("it does not parse") from error
    if hashlib.sha256(canonical(content).encode()).hexdigest() != seal:
        raise DamagedEntryError("it was edited")
    return content


def write_manifest(entry: Entry) -> None:
    """Write the manifest into ``entry.folder``."""
    facts = {name: getattr(entry, name) for name in _SAVED}
    files = {name: asdict(file) for name, file in entry.files.items()}
    write_text(entry.folder / MANIFEST, sealed({**facts, "format": FORMAT, "files": files}))


def read_entry(folder: Path) -> Entry:
    """Read the manifest of ``folder``; its files are not looked at.

    Raises:
        DamagedEntryError: there is none, or not one that this version wrote.
    """
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedEntryError("its manifest cannot be read") from error
    try:
        content = unsealed(text)
        if content["format"] != FORMAT:
            raise DamagedEntryError(f"its manifest has format {content['format']}, not {FORMAT}")
        fields: dict[str, Any] = {name: content[name] for name in _SAVED}
        fields["files"] = {name: CachedFile(**file) for name, file in fields["files"].items()}
        entry = Entry(folder=folder, **fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedEntryError(f"its manifest lacks {error}") from error
    except DamagedEntryError as error:
        raise DamagedEntryError(f"its manifest is not the one that was stored: {error}") from error
    if entry.key != key_of(entry.parts) or entry.key != folder.name:
        raise DamagedEntryError("its manifest belongs to another entry")
    if not all(_stays_inside(name) for name in entry.files):
        raise DamagedEntryError("its manifest names a file outside of the entry")
    return entry


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name
