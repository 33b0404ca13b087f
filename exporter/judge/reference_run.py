"""What a given file is held against: program and file of the pipeline's own run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from exporter.build.artifacts import Artifacts
from exporter.build.build import build
from exporter.build.metadata import VALUE_NAMES, metadata_of, same_origin
from exporter.cache.store import open_store
from exporter.config import Pipeline
from exporter.core.errors import ArtifactError, StageError
from exporter.core.files import write_text
from exporter.core.stages import Stages
from exporter.graph.certificate import check_certificate
from exporter.graph.wrap import Wrapped
from exporter.judge.report_records import artifact_record
from exporter.report.beside import changed_file
from exporter.report.schema import ArtifactRecord, read_report

MADE = "verify/reference"
"""Below the output folder: an export that is made because there is no finished run. It must not
take the place of files that lie there: one of them may be the file that is judged."""
MADE_WITH_NAMES_OF_TORCH = "verify/reference_torch"


_MADE_FILE = "made.json"
"""Digests of an export that no run has certified."""


def reference_run(
    pipeline: Pipeline,
    wrapped: Wrapped,
    folder: Path,
    threads: int,
    progress: Stages,
    *,
    names_of_torch: bool = False,
) -> Artifacts:
    """The finished run in ``folder`` if it is of this pipeline and weights, else a new export.

    Args:
        names_of_torch: its values must have the names that plain torch gives them.

    Raises:
        StageError: the export stops.
        ArtifactError: a file in ``folder`` cannot be read.
    """
    expected = metadata_of(pipeline, wrapped, names_of_torch=names_of_torch)
    made = folder / (MADE_WITH_NAMES_OF_TORCH if names_of_torch else MADE)
    for place in (folder, made):
        artifacts = _finished(place, expected)
        if artifacts is not None:
            return artifacts
    try:
        built = build(
            pipeline,
            made,
            progress,
            prepare=lambda: torch.set_num_threads(threads),
            store=open_store(),
            names_of_torch=names_of_torch,
        )
    except StageError as error:
        finished = tuple(progress.timings)
        raise StageError(error.stage, error.detail, finished=finished) from error
    written = artifact_record(built.shipped).model_dump_json()
    write_text(made / _MADE_FILE, written)
    return built.artifacts


def _finished(folder: Path, expected: Mapping[str, str]) -> Artifacts | None:
    artifacts = Artifacts(folder=folder)
    if not artifacts.complete:
        return None
    checked = check_certificate(artifacts.shipped)
    metadata = checked.contents.metadata
    # A file that was changed since its run is no reference for anything, and one that has lost its
    # certificate has to be the one that is written of.
    if checked.certificate is None and not _written_of(folder):
        return None
    if checked.changes or not same_origin(metadata, expected, VALUE_NAMES):
        return None
    return artifacts


def _written_of(folder: Path) -> bool:
    """True when what was written beside ``model.onnx`` as it was made says that it is that file."""
    record = _record_beside(folder)
    return record is not None and not changed_file(record, folder / "report.json")


def _record_beside(folder: Path) -> ArtifactRecord | None:
    try:
        if (folder / "report.json").is_file():
            artifacts = read_report(folder / "report.json").artifacts
            return next((artifact for artifact in artifacts if artifact.name == "model.onnx"), None)
        return ArtifactRecord.model_validate_json((folder / _MADE_FILE).read_text())
    except (OSError, ValueError, ArtifactError):
        return None
