"""A whole run: build the graph, walk the chain of comparisons, write the report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.contracts import declared_settings
from exporter.core.disk import disk_error
from exporter.core.errors import ModelError, StageError
from exporter.core.stages import Stages
from exporter.core.stopwatch import breakdown, collecting
from exporter.flows.certify import uncertify
from exporter.flows.judged_run import judged_run
from exporter.flows.prepare import Prepared, prepare
from exporter.flows.stopped import (
    guilty_link,
    stage_error,
    stopped_report,
)
from exporter.judge.links import planned_links
from exporter.report.progress import Progress
from exporter.report.schema import Report
from exporter.report.write import HTML, MARKDOWN, clear_reports, write_reports


def run(
    pipeline: Pipeline | Path | str,
    options: RunOptions | None = None,
    *,
    progress: Stages | None = None,
    **fields: Any,
) -> Report:
    """Export a pipeline, simplify it, compare every stage and layer, write the output folder.

    The shipped file carries a certificate of what was found. A stage that could not do its work
    leaves a report that says so, and no certificate.

    Args:
        pipeline: a pipeline, or the path of its YAML.
        options: how; ``fields`` are single fields of it, and win.
        progress: is told the stages; None: nobody is.

    Raises:
        UserInputError: pipeline, weights, case, recording or provider cannot be used, or the
            user's own model raises.
    """
    ready = prepare(pipeline, RunOptions.given(options, fields))
    progress = progress or Progress(quiet=True)
    # A wrong option of a contract is to be said now, not when all else has been run.
    declared_settings(ready.pipeline.contracts, pipeline=ready.pipeline)
    with ready.options.taken(ready.pipeline, progress):
        return _reported(ready, progress)


def _reported(ready: Prepared, progress: Stages) -> Report:
    """The run, or a report of the stage that stopped it."""
    pipeline, folder = ready.pipeline, ready.folder
    clear_reports(folder)
    uncertify(folder)
    try:
        report = _run(ready, progress)
    except (StageError, ModelError) as error:
        if (told := disk_error(error)) is not None:
            raise told from error  # nothing is wrong with the pipeline
        stopped = stage_error(error)
        if stopped is None:
            raise
        report = stopped_report(
            ready,
            stopped,
            folder=folder,
            links=planned_links(pipeline.export.simplify, ready.deployments),
            guilty=guilty_link(pipeline, stopped),
            timings=progress.timings,
        )
        write_reports(report, folder)
        if error is not stopped:
            page = HTML if (folder / HTML).exists() else MARKDOWN
            progress.note(f"report: {folder / page}")
            raise
    return report


def _run(ready: Prepared, progress: Stages) -> Report:
    """The run itself, in a folder that holds nothing of an earlier one that could be believed."""
    began = time.perf_counter()
    with collecting() as spent:
        report = judged_run(ready, progress)
    total = time.perf_counter() - began
    update = {
        "timings": {**progress.timings, "total": total},
        "breakdown": breakdown(spent, total),
    }
    report = report.model_copy(update=update)
    write_reports(report, ready.folder)
    return report
