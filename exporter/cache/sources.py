"""Digests of this package's own code: what another version of it may do differently."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
WITHOUT = frozenset({"report", "commands", "debugging", "golden", "contracts", "matrix"})
"""Folders whose code decides neither what an export is nor how its outputs are judged. Whatever is
not named here counts: a module that is added cannot be forgotten."""


def sources_digest(package: Path, without: Collection[str] = WITHOUT) -> str:
    """sha256 over names and contents of a package's Python files, but for those in ``without``."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package)
        if inside.parts[0] not in without:
            digest.update(f"{inside}\n".encode() + path.read_bytes())
    return digest.hexdigest()
