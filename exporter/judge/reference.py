"""What a given file is held against: program and file of the pipeline's own run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from exporter.build.build import PREFIX, VALUE_NAMES, build, metadata_of
from exporter.cache.store import open_store
from exporter.config import Pipeline
from exporter.core.errors import ArtifactError, StageError
from exporter.core.files import write_text
from exporter.core.stages import Stages
from exporter.graph.certificate import check_certificate
from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.onnx_file import read_model
from exporter.graph.program import Program
from exporter.graph.program_file import load_program
from exporter.graph.wrap import Wrapped
from exporter.judge.records import artifact_record
from exporter.report.beside import changed_file
from exporter.report.schema import ArtifactRecord, read_report

MADE = "verify/reference"
"""Below the output folder: an export that is made because there is no finished run. It must not
take the place of files that lie there: one of them may be the file that is judged."""
MADE_WITH_NAMES_OF_TORCH = "verify/reference_torch"


_MADE_FILE = "made.json"
"""Digests of an export that no run has certified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the pipeline's own run left: the program, and the file that it shipped."""

    program: Program
    graph: GraphIndex
    metadata: Mapping[str, str]


def reference_run(
    pipeline: Pipeline,
    wrapped: Wrapped,
    folder: Path,
    threads: int,
    progress: Stages,
    *,
    names_of_torch: bool = False,
) -> Reference:
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
        found = _finished(place, expected)
        if found is not None:
            return found
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
    return Reference(
        program=built.program,
        graph=index_graph(read_model(built.shipped.path), made),
        metadata=dict(built.shipped.metadata),
    )


def _finished(folder: Path, expected: Mapping[str, str]) -> Reference | None:
    shipped = folder / "model.onnx"
    if not shipped.is_file() or not (folder / "program" / "ops.json").is_file():
        return None
    checked = check_certificate(shipped)
    metadata = checked.contents.metadata
    keys = (f"{PREFIX}graph_digest", f"{PREFIX}weights_digest", VALUE_NAMES)
    # A file that was changed since its run is no reference for anything, and one that has lost its
    # certificate has to be the one that is written of.
    if checked.certificate is None and not _written_of(folder):
        return None
    if checked.changes or any(metadata.get(key) != expected.get(key) for key in keys):
        return None
    return Reference(
        program=load_program(folder / "program"),
        graph=index_graph(read_model(shipped), folder),
        metadata=metadata,
    )


def _written_of(folder: Path) -> bool:
    """True when what was written beside ``model.onnx`` as it was made says that it is that file."""
    held = _record_beside(folder)
    return held is not None and not changed_file(held, folder / "report.json")


def _record_beside(folder: Path) -> ArtifactRecord | None:
    try:
        if (folder / "report.json").is_file():
            artifacts = read_report(folder / "report.json").artifacts
            return next((held for held in artifacts if held.name == "model.onnx"), None)
        return ArtifactRecord.model_validate_json((folder / _MADE_FILE).read_text())
    except (OSError, ValueError, ArtifactError):
        return None
