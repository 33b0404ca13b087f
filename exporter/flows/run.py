"""A whole run: build the graph, walk the chain of comparisons, write the report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from exporter.build.build import build, users_code
from exporter.build.runner_script import write_runner
from exporter.cache.store import open_store
from exporter.cases.at_lengths import sized_cases
from exporter.cases.load import load_cases
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.contracts import declared_settings
from exporter.core.artifact import sha256_of
from exporter.core.disk import disk_error
from exporter.core.errors import ArtifactError, ModelError, StageError
from exporter.core.stages import Stages
from exporter.core.stopwatch import FILES, breakdown, collecting, timed
from exporter.flows.certify import certify_run, uncertify
from exporter.flows.check import contracts_of_run
from exporter.flows.prepare import Prepared, prepare
from exporter.flows.report_parts import judged_report
from exporter.flows.stopped import (
    ONNXRUNTIME,
    guilty_link,
    stage_error,
    stopped_report,
)
from exporter.graph.onnx_file import EXTERNAL_LIMIT
from exporter.judge.chain import Chain, Subject
from exporter.judge.length_proofs import LengthProofs
from exporter.judge.links import planned_links
from exporter.judge.report_records import artifact_record, cache_record, plain_artifact
from exporter.judge.subject import Sizes
from exporter.parity.tolerance import policy_of
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
        report = _judged(ready, progress)
    total = time.perf_counter() - began
    update = {
        "timings": {**progress.timings, "total": total},
        "breakdown": breakdown(spent, total),
    }
    report = report.model_copy(update=update)
    write_reports(report, ready.folder)
    return report


def _judged(ready: Prepared, progress: Stages) -> Report:
    pipeline, folder = ready.pipeline, ready.folder
    built = build(
        pipeline,
        folder,
        progress,
        prepare=lambda: torch.set_num_threads(ready.threads),
        store=open_store() if ready.options.cache else None,
    )
    written = write_runner(
        folder,
        built.wrapped.inputs,
        pipeline.outputs,
        pipeline.sample_rate_hz,
        built.wrapped.tokens,
        pipeline.case(pipeline.default_case),
    )
    loaded = load_cases(pipeline, built.wrapped.inputs, ready.cases)
    subject = Subject(
        module=built.wrapped.module,
        program=built.program,
        inputs=built.wrapped.inputs,
        outputs=built.wrapped.outputs,
        stations=built.stations,
        states=built.wrapped.states,
        sizes=Sizes.of(built.wrapped),
    )
    policy = policy_of(pipeline)
    checked = bool(declared_settings(pipeline.contracts, pipeline=pipeline))
    # A session is as large as its weights: beside those of the layers a second copy of a large
    # model costs more memory than building it again costs time.
    keep = checked and built.shipped.bytes <= EXTERNAL_LIMIT
    chain = Chain(subject, policy, ready.deployments, ready.budget, progress, keep)
    sized = sized_cases(pipeline, built.wrapped.inputs, loaded)
    proofs = LengthProofs.of(built, policy, ready.deployments[0])
    try:
        with users_code(pipeline):
            result = chain.judge(loaded, sized, pipeline.min_coverage, proofs)
    except ArtifactError as error:
        # The file is our own: there is nothing in it that a user gave.
        what = f"{error.where}: {error.problem}"
        raise StageError(ONNXRUNTIME, what, file=error.where or "") from error
    contracts = contracts_of_run(ready, built, loaded, progress, chain.open_file())
    report = judged_report(
        ready,
        loaded,
        result,
        contracts=contracts,
        weights=built.wrapped.weights,
        tokens=built.wrapped.tokens,
        artifacts=[
            artifact_record(built.exported),
            artifact_record(built.shipped),
            *(plain_artifact(folder / name, sha256_of(folder / name)) for name in written),
        ],
        notes=list(built.notes),
        not_checked=list(result.not_checked(built.program, simplified=bool(built.simplified))),
        made_of=built.made_of,
        fallback=built.program.fallback,
        layers=pipeline.layers or "required",
        cache=cache_record(built.cache),
    )
    with progress.stage("certify"), timed(FILES):
        return certify_run(report, built.shipped, pipeline, policy, ready.options.golden_dir)
