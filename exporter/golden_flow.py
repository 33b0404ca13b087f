"""What the commands and the pytest plugin do with goldens, from a pipeline to an outcome.

PyTorch is imported where something has to be exported or recorded, and nowhere else.
"""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.config import Pipeline
from exporter.errors import ExportVerifyError, GoldenError
from exporter.golden.outcome import CheckOutcome, State
from exporter.golden.store import exists

if TYPE_CHECKING:
    from exporter.build import Stages
    from exporter.golden.records import Golden
    from exporter.report.schema import Report

CANDIDATE = ".candidate"
"""Suffix of the folder in which a golden waits to be accepted."""


def check(
    pipeline: Pipeline,
    folder: Path,
    *,
    onnx: Path | None,
    run_folder: Path,
    stages: Stages,
    cases: Sequence[str] | None = None,
    threads: int | None = None,
    provider: str | None = None,
    options: Sequence[str] = (),
) -> CheckOutcome:
    """Check a file, or what the pipeline exports now, against the golden in ``folder``.

    Args:
        onnx: the file; ``None`` takes ``run_folder/model.onnx`` if it was exported from the
            pipeline's present state, and exports one otherwise.
        run_folder: where ``export-verify run`` puts its files.
        options: what leads other commands there, for the advice.

    A golden that is missing is recorded to the side, and the check fails.
    """
    from exporter.golden_check import check_golden, find_onnx

    file = onnx
    if file is None and exists(folder):
        file = find_onnx(pipeline, run_folder) or _export(pipeline, run_folder, threads, stages)
    outcome = check_golden(
        pipeline,
        folder,
        file or run_folder / "model.onnx",
        cases=cases,
        threads=threads,
        provider=provider,
        progress=stages.phase,
        options=options,
    )
    if outcome.problem is State.MISSING:
        return _with_candidate(outcome, pipeline, folder, run_folder, threads, stages, options)
    return outcome


def record(
    pipeline: Pipeline,
    folder: Path,
    *,
    reason: str,
    run_folder: Path,
    stages: Stages,
    cases: Sequence[str] | None = None,
    threads: int | None = None,
    from_run: bool = False,
) -> tuple[Golden, Report]:
    """Run a pipeline and record its golden.

    Args:
        reason: why; kept in the manifest.
        cases: names; all of the pipeline by default.
        from_run: take the run that lies in ``run_folder`` instead of a new one.

    Raises:
        GoldenError: the run did not pass, or does not belong to the pipeline.
    """
    from exporter.golden_record import record_golden, refuse_bad_run
    from exporter.graph.wrap import wrap
    from exporter.pipeline import run
    from exporter.report.schema import read_report

    if from_run:
        report = read_report(run_folder / "report.json")
    else:
        report = run(
            pipeline,
            output_dir=run_folder,
            progress=stages,
            cases=cases,
            all_cases=not cases,
            provider="cpu",
            threads=threads,
            golden_dir=folder.parent,
        )
    names = cases or [case.name for case in pipeline.cases]
    refuse_bad_run(pipeline, report, names, run_folder / "model.onnx")
    with stages.stage("record golden") as stage:
        golden = record_golden(
            pipeline,
            report,
            run_folder,
            folder,
            inputs=wrap(pipeline).inputs,
            reason=reason,
            cases=cases,
            progress=stages.phase,
        )
        stage.result(f"{len(golden.cases)} cases, {len(golden.taps)} layers' values")
    return golden, report


def _export(pipeline: Pipeline, run_folder: Path, threads: int | None, stages: Stages) -> Path:
    """Export the pipeline beside its run; the run's own files stay as they are."""
    import torch

    from exporter.build import build
    from exporter.cache.store import open_store
    from exporter.environment import usable_cores

    folder = run_folder / "golden_check"
    folder.mkdir(parents=True, exist_ok=True)
    cores = threads or usable_cores()
    built = build(
        pipeline,
        folder,
        stages,
        prepare=lambda: torch.set_num_threads(cores),
        store=open_store(),
    )
    return built.shipped.path


def _with_candidate(
    outcome: CheckOutcome,
    pipeline: Pipeline,
    folder: Path,
    run_folder: Path,
    threads: int | None,
    stages: Stages,
    options: Sequence[str],
) -> CheckOutcome:
    """Record what is missing to the side, and say how it becomes the golden."""
    from exporter.golden_check import record_command

    command = record_command(pipeline, folder, options)
    if importlib.util.find_spec("torch") is None:
        return replace(outcome, advice=f"PyTorch is not installed here; where it is: {command}")
    candidate = folder.with_name(f"{folder.name}{CANDIDATE}")
    try:
        record(
            pipeline,
            candidate,
            reason="candidate, written by a check that found no golden",
            run_folder=run_folder.with_name(f"{run_folder.name}{CANDIDATE}"),
            stages=stages,
            threads=threads,
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
