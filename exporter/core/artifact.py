"""An ONNX file as a value: where it is, what it weighs, and what it says of itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CERTIFICATE_PREFIX = "export_verify.certificate."
"""How the metadata keys of a certificate begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that a stage wrote.

    Attributes:
        path: the ``.onnx`` file.
        sha256: digest of that file (external data has digests of its own in ``external``).
        bytes: size of the file and its external data together.
        nodes: number of nodes in the main graph.
        metadata: the file's ``metadata_props``.
        external: external data files, by name, with their sha256.
    """

    path: Path
    sha256: str
    bytes: int
    nodes: int
    metadata: Mapping[str, str]
    external: Mapping[str, str]


def sha256_of(path: Path) -> str:
    """sha256 of a file, read in pieces into one buffer: new memory costs more than the reading."""
    with path.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
