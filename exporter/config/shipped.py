"""Pipelines that come with the package, found by name: ``sensevoice_tiny``, ``zoo/hf_gpt2``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.core.reading import is_regular

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIX = ".yaml"


def shipped_folder() -> Path | None:
    """Where they lie: inside of an installed package, beside it in a clone."""
    for folder in (_PACKAGE / "shipped" / "pipelines", _PACKAGE.parent / "pipelines"):
        if folder.is_dir():
            return folder
    return None


def shipped_pipeline(name: str) -> Path | None:
    """The YAML of this name, if one comes with the package.

    Args:
        name: without ``.yaml``; what stands in a folder is called by it: ``systems/whisper_tiny``.
    """
    folder = shipped_folder()
    if folder is None or not name or name.startswith((".", "/", "~")) or ".." in name:
        return None
    path = folder / f"{name}{_SUFFIX}"
    return path if is_regular(path) else None


def shipped_names() -> Iterator[str]:
    """All of them, sorted."""
    folder = shipped_folder()
    if folder is not None:
        for path in sorted(folder.rglob(f"*{_SUFFIX}")):
            yield path.relative_to(folder).with_suffix("").as_posix()
