"""Record a golden: what a run that passed gave, or what an ONNX file alone gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.disk import writable_folder
from exporter.core.errors import GoldenError, UserInputError
from exporter.core.stages import Stages
from exporter.flows.golden_file import changed_since
from exporter.golden.store import exists
from exporter.report.progress import Progress

if TYPE_CHECKING:
    from exporter.golden.values import Golden
    from exporter.report.schema import Report


def record(
    pipeline: Pipeline | Path | str,
    options: RunOptions | None = None,
    *,
    reason: str,
    folder: Path | None = None,
    from_run: bool = False,
    progress: Stages | None = None,
    **fields: Any,
) -> tuple[Golden, Report]:
    """Run a pipeline and record its golden.

    Args:
        options, fields: as in ``exporter.run``; all cases by default.
        reason: why; kept in the manifest.
        folder: where it goes; ``golden_dir/<pipeline>`` by default.
        from_run: take the run that lies in the output folder instead of a new one.

    Raises:
        GoldenError: the run did not pass, or does not belong to the pipeline.
    """
    options = RunOptions.given(options, fields)
    pipeline = options.opened(pipeline)
    progress = progress or Progress(quiet=True)
    folder = folder or options.golden_dir / pipeline.name
    writable_folder(folder.parent, "golden folder")
    if folder.exists():
        writable_folder(folder, "golden folder")
    if pipeline.file_alone is not None:
        raise UserInputError(
            "this pipeline is an ONNX file alone", remedy="record_file records what a file gives"
        )
    with options.taken(pipeline, progress):
        return _recorded(pipeline, options, folder, reason, from_run, progress)


def _recorded(
    pipeline: Pipeline,
    options: RunOptions,
    folder: Path,
    reason: str,
    from_run: bool,
    progress: Stages,
) -> tuple[Golden, Report]:
    from exporter.flows.run import run
    from exporter.golden.record import record_golden, refuse_bad_run
    from exporter.graph.wrap import wrap
    from exporter.report.schema import read_report

    cases, run_folder = options.cases, options.folder(pipeline)
    if from_run:
        report = read_report(run_folder / "report.json")
    else:
        report = run(pipeline, options, progress=progress, all_cases=not cases, provider="cpu")
    names = cases or [case.name for case in pipeline.cases]
    refuse_bad_run(pipeline, report, names, run_folder / "model.onnx")
    if from_run and (changed := changed_since(pipeline, wrap(pipeline), report)):
        raise GoldenError(
            f"the run is of another state of the model; changed since: {changed}",
            where=str(run_folder),
            remedy="run the pipeline again",
        )
    with progress.stage("record golden") as stage:
        golden = record_golden(
            pipeline,
            report,
            run_folder,
            folder,
            reason=reason,
            cases=cases,
            progress=progress.phase,
        )
        stage.result(f"{len(golden.cases)} cases, {len(golden.taps)} layers' values")
    return golden, report


def record_file(
    pipeline: Pipeline,
    options: RunOptions,
    *,
    reason: str,
    progress: Stages | None = None,
) -> Golden:
    """Record what an ONNX file alone gives; the golden is marked as not vouched for by PyTorch.

    Raises:
        ArtifactError, ConfigError, GoldenError: the file, its YAML, or what it gives is no good.
        UserInputError: a golden that PyTorch vouches for lies there.
    """
    from exporter.flows.check_file import open_file_alone
    from exporter.golden.record_file import golden_of_file
    from exporter.golden.store import read_golden, write_golden

    progress = progress or Progress(quiet=True)
    folder = options.golden_dir / pipeline.name
    writable_folder(folder.parent, "golden folder")
    before = read_golden(folder) if exists(folder) else None
    if before is not None and before.vouched:
        raise UserInputError(
            "PyTorch vouches for the golden that lies here; what a file gives does not replace it",
            where=str(folder),
            remedy="give another --golden-dir, or take that golden away first",
        )
    with progress.stage("open the file") as stage:
        opened = open_file_alone(pipeline, options.threads or 0)
        stage.result(f"{len(opened.graph.nodes)} nodes")
    with progress.stage("record golden") as stage:
        golden = golden_of_file(
            pipeline,
            opened.graph,
            opened.inputs,
            reason=reason,
            replaces="" if before is None else before.digest,
            cases=options.cases,
            threads=options.threads,
            progress=progress.phase,
        )
        stage.result(f"{len(golden.cases)} cases, {len(golden.taps)} values")
        return write_golden(golden, folder)
