"""The pipeline of a variant: the user's, with values of a cell; what its weights are known by."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporter.config.extends import EXTENDS, Resolved, extended, show
from exporter.config.load import pipeline_of
from exporter.config.pipeline import Pipeline
from exporter.config.problems import raise_all
from exporter.config.yaml_tree import Keys, Place
from exporter.core.artifact import sha256_of
from exporter.matrix.schema import PIPELINE_KEYS, Value

_WITHOUT_FILES = ("seeded", "package")
_COMMIT = re.compile(r"hub:[^@]+@[0-9a-f]{40}")


def variant_pipeline(
    pipeline: Pipeline, values: Mapping[str, Value], matrix: Path, said: Resolved
) -> tuple[Pipeline, dict[str, Any]]:
    """A pipeline with other values, and the YAML that says so wherever it lies.

    Args:
        values: axis -> value, of axes that decide the file.
        matrix: the file that names them; said: its content. A path among them counts from the
            folder of the file that gives it.

    Raises:
        ConfigError: there is no such pipeline; says which line of the matrix asks for it.
    """
    shown = show(matrix)
    written: dict[str, Any] = {
        EXTENDS: str(Path(pipeline.file).resolve()),
        "name": pipeline.name,
        # Only what numbers depend on.
        "contracts": None,
        "lengths": None,
        "deploy": [{"provider": "cpu"}],
    }
    places: dict[Keys, Place] = {(key,): Place(file=shown, line=1) for key in written}
    for name, value in values.items():
        place = said.places.get(("axes", "set", name)) or said.places[("axes", name)]
        *folders, last = keys = PIPELINE_KEYS.get(name, name).split(".")
        section = written
        for depth, folder in enumerate(folders, start=1):
            section = section.setdefault(folder, {})
            places.setdefault(tuple(keys[:depth]), place)
        section[last] = value
        places[tuple(keys)] = place
    own = Resolved(
        content=dict(written), places=places, folders={**said.folders, shown: matrix.parent}
    )
    whole, problems = extended(own, matrix)
    raise_all(shown, problems)
    variant = pipeline_of(whole, shown)
    if "weights" in written.get("model", {}):
        written["model"]["weights"] = variant.model.weights
    return variant, written


def weights_content(weights: str) -> tuple[str, bool]:
    """What weights are known by, and whether they stay as they are while that is the same.

    Args:
        weights: of a pipeline's model; a path is absolute.
    """
    if weights in _WITHOUT_FILES or weights.startswith("hub:"):
        # A tag or a branch may stand for other weights tomorrow.
        return weights, weights in _WITHOUT_FILES or _COMMIT.fullmatch(weights) is not None
    path = Path(weights)
    try:
        return (sha256_of(path), True) if path.is_file() else (_folder_digest(path), path.is_dir())
    except OSError as error:
        return str(error), False


def _folder_digest(folder: Path) -> str:
    """sha256 over names and contents of all files of a folder, links followed."""
    digest = hashlib.sha256()
    for where, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            path = Path(where) / name
            content = sha256_of(path) if path.is_file() else "no file"
            digest.update(f"{path.relative_to(folder)}\n{content}\n".encode())
    return digest.hexdigest()
