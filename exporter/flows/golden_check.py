"""Hold an ONNX file against its golden: the file given, the run's, or one exported now.

PyTorch is imported where something has to be exported or recorded, and nowhere else.
"""

from __future__ import annotations

import importlib.util
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import ExportVerifyError, GoldenError
from exporter.core.stages import Stages
from exporter.flows.golden_file import present_file
from exporter.flows.golden_record import record
from exporter.golden.outcome import CheckOutcome, State
from exporter.golden.store import exists
from exporter.report.progress import Progress

CANDIDATE = ".candidate"
"""Suffix of the folder in which a golden waits to be accepted."""


def check(
    pipeline: Pipeline | Path | str,
    options: RunOptions | None = None,
    *,
    onnx: Path | None = None,
    progress: Stages | None = None,
    **fields: Any,
) -> CheckOutcome:
    """Check a file, or what the pipeline exports now, against its golden.

    Args:
        options, fields: as in ``exporter.run``.
        onnx: the file; ``None`` takes the run's ``model.onnx`` if it was exported from the
            pipeline's present state, its code and weights included, and exports one otherwise.

    A golden that is missing is recorded to the side, and the check fails.

    Raises:
        UserInputError: there is no ``onnx``, and without PyTorch nobody can tell of which state
            of the model the run's file is.
        ArtifactError: the run's file is not the one that its report describes.
    """
    options = RunOptions.given(options, fields)
    pipeline = options.opened(pipeline)
    progress = progress or Progress(quiet=True)
    with options.taken(pipeline, progress):
        return _checked(pipeline, options, onnx, progress)


def _checked(
    pipeline: Pipeline, options: RunOptions, onnx: Path | None, progress: Stages
) -> CheckOutcome:
    from exporter.golden.check import check_golden

    folder, run_folder = options.golden_dir / pipeline.name, options.folder(pipeline)
    file = onnx
    notes: tuple[str, ...] = ()
    if file is None and pipeline.file_alone is not None:
        file = pipeline.file_alone
    if file is None and exists(folder):
        file, notes = present_file(pipeline, options, progress)
    outcome = check_golden(
        pipeline,
        folder,
        file or run_folder / "model.onnx",
        cases=options.cases,
        threads=options.threads,
        provider=options.provider,
        progress=progress.phase,
        options=options.words(pipeline),
        try_first=onnx is not None,
    )
    if outcome.problem is State.MISSING and pipeline.file_alone is not None:
        words = ["export-verify", "golden", "record", pipeline.file]
        return replace(outcome, advice=f"{shlex.join(words)} --reason TEXT")
    if outcome.problem is State.MISSING:
        return _with_candidate(outcome, pipeline, folder, options, progress)
    return replace(outcome, notes=(*notes, *outcome.notes))


def _with_candidate(
    outcome: CheckOutcome,
    pipeline: Pipeline,
    folder: Path,
    options: RunOptions,
    progress: Stages,
) -> CheckOutcome:
    """Record what is missing to the side, and say how it becomes the golden."""
    from exporter.golden.check import record_command

    command = record_command(pipeline, folder, options.words(pipeline))
    if importlib.util.find_spec("torch") is None:
        return replace(outcome, advice=f"PyTorch is not installed here; where it is: {command}")
    candidate = folder.with_name(f"{folder.name}{CANDIDATE}")
    run_folder = options.folder(pipeline)
    aside = {"output_dir": run_folder.with_name(f"{run_folder.name}{CANDIDATE}"), "cases": None}
    try:
        record(
            pipeline,
            options.model_copy(update=aside),
            folder=candidate,
            reason="candidate, written by a check that found no golden",
            progress=progress,
        )
    except GoldenError as error:
        return replace(outcome, advice=f"no candidate was written: {error.problem}")
    except ExportVerifyError as error:
        return replace(outcome, advice=f"no candidate could be made: {error}")
    return replace(
        outcome,
        advice=f"a candidate lies in {candidate}; read its manifest.json, then accept it:"
        f" {shlex.join(['mv', str(candidate), str(folder)])}; or record with a reason of your own:"
        f" {command}",
    )
