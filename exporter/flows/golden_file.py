"""The file that a check of a golden looks at: the run's own, or a new export.

PyTorch is imported where something has to be exported, and nowhere else.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.build.metadata import GRAPH_DIGEST
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import ArtifactError, UserInputError
from exporter.core.output_folder import GOLDEN_CHECK
from exporter.core.stages import Stages

if TYPE_CHECKING:
    from exporter.graph.wrap import Wrapped
    from exporter.report.schema import Report


def present_file(
    pipeline: Pipeline, options: RunOptions, progress: Stages
) -> tuple[Path, tuple[str, ...]]:
    """The run's file if it is of the model as it is now, else a new export; and what to say."""
    from exporter.report.beside import changed_files
    from exporter.report.schema import read_report

    run_folder = options.folder(pipeline)
    own, saved = _own_file(pipeline, run_folder), run_folder / "report.json"
    if importlib.util.find_spec("torch") is None:
        raise UserInputError(
            "without PyTorch nobody can tell of which state of the model a file is",
            remedy=f"name the file that is to be checked: --onnx {run_folder / 'model.onnx'}",
        )
    if own is None or not saved.is_file():
        return _export(pipeline, options, progress), ()
    report = read_report(saved)
    if changed := changed_files(report, saved):
        raise ArtifactError(
            changed[0],
            remedy="run the pipeline again, or check the file as it is with --onnx",
        )
    from exporter.graph.wrap import wrap

    changed = changed_since(pipeline, wrap(pipeline), report)
    if not changed:
        return own, ()
    note = f"the file of the last run is of another state of the model (changed since: {changed});"
    return _export(pipeline, options, progress), (f"{note} a new export was checked",)


def _own_file(pipeline: Pipeline, run_folder: Path) -> Path | None:
    """``model.onnx`` of an earlier run of this pipeline in its present state, if there is one."""
    path = run_folder / "model.onnx"
    if not path.is_file():
        return None
    from exporter.graph.contents import metadata_entries

    try:
        metadata = {entry.key: entry.value for entry in metadata_entries(path)}
    except UserInputError:
        return None
    return path if metadata.get(GRAPH_DIGEST) == pipeline.graph_digest else None


def _export(pipeline: Pipeline, options: RunOptions, progress: Stages) -> Path:
    """Export the pipeline beside its run; the run's own files stay as they are."""
    import torch

    from exporter.build.build import build
    from exporter.cache.store import open_store
    from exporter.report.environment import usable_cores

    folder = options.folder(pipeline) / GOLDEN_CHECK
    folder.mkdir(parents=True, exist_ok=True)
    cores = options.threads or usable_cores()
    built = build(
        pipeline,
        folder,
        progress,
        prepare=lambda: torch.set_num_threads(cores),
        store=open_store() if options.cache else None,
    )
    return built.shipped.path


def changed_since(pipeline: Pipeline, wrapped: Wrapped, report: Report) -> str:
    """What has changed since a run of what its files were made of, in words; "" for nothing."""
    from exporter.build.build import state_of

    made_of, now = report.pipeline.made_of, state_of(pipeline, wrapped)
    if made_of:
        return ", ".join(name for name, digest in now.items() if made_of.get(name) != digest)
    return "weights" if report.pipeline.weights.digest != wrapped.weights.digest else ""
