"""Contracts of a pipeline: on the artifacts of a finished run where there are some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from exporter.build.artifacts import Artifacts
from exporter.build.build import Built
from exporter.build.metadata import metadata_of, same_origin
from exporter.cases.load import choose_cases, load_cases
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.contracts import ContractResult, Target, declared_settings, run_contracts
from exporter.contracts.make_target import target_from_wrapped
from exporter.contracts.onnx_side import opened
from exporter.contracts.runner import CONTRACTS
from exporter.core.errors import ConfigError
from exporter.core.stages import Stages
from exporter.core.tensors import Case
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.flows.check_file import check_file
from exporter.flows.prepare import Prepared
from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import open_artifact
from exporter.graph.wrap import Wrapped, narrowed, wrap
from exporter.judge.chain_result import OpenFile
from exporter.report.progress import Progress
from exporter.report.schema import ContractRecord


def contract_target(
    pipeline: Pipeline,
    wrapped: Wrapped,
    cases: Sequence[Case],
    artifacts: Artifacts | None,
    *,
    deployment: Deployment | None = None,
    thorough: bool = False,
    graph: GraphIndex | None = None,
    session: FileRun | None = None,
) -> Target:
    """What the contracts of a pipeline are checked on.

    Args:
        cases: loaded cases; the first is what probes are cut from.
        artifacts: files of this very pipeline and weights; None exports in memory when a contract
            asks for the file.
        graph, session: the shipped file as it is open already.
    """
    file = None
    if artifacts is not None:
        program = artifacts.program if artifacts.complete else None
        known = {"taps": artifacts.taps, "program": program, "deployment": deployment}
        file = opened(artifacts.shipped, **known, graph=graph, session=session)
    return target_from_wrapped(
        wrapped,
        cases,
        name=pipeline.name,
        file=file,
        deployment=deployment,
        opset=pipeline.export.opset,
        sweep=pipeline.lengths,
        thorough=thorough,
    )


def finished_run(pipeline: Pipeline, wrapped: Wrapped, folder: Path) -> Artifacts | None:
    """What a run of this very pipeline and weights has left in ``folder``, if there was one."""
    found = Artifacts(folder=folder)
    if not found.shipped.is_file():
        return None
    artifact, _ = open_artifact(found.shipped)
    return found if same_origin(artifact.metadata, metadata_of(pipeline, wrapped)) else None


def contracts_of_run(
    ready: Prepared,
    built: Built,
    cases: tuple[Case, ...],
    progress: Stages,
    held: OpenFile,
) -> list[ContractRecord]:
    """Check what the pipeline declares, on the module and on the file that was just shipped."""
    pipeline = ready.pipeline
    if not declared_settings(pipeline.contracts, pipeline=pipeline):
        return []
    with progress.stage("contracts") as stage:
        target = contract_target(
            pipeline,
            built.wrapped,
            cases,
            built.artifacts,
            deployment=ready.deployments[0],
            graph=held.graph,
            session=held.session,
        )
        found = run_contracts(
            target, pipeline.contracts, progress=progress.phase, pipeline=pipeline
        )
        records = contract_records(pipeline, found)
        counts = Counter(record.verdict for record in records)
        stage.result(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return records


def contract_records(
    pipeline: Pipeline,
    results: Sequence[ContractResult],
    *,
    only: Sequence[str] | None = None,
) -> list[ContractRecord]:
    """Results as rows of ``report.json``, with what the YAML says about ``required``."""
    settings = declared_settings(pipeline.contracts, pipeline=pipeline, only=only)
    # A part of a contract (``causality.streaming``) is required as the contract is.
    return [
        result.record(required=pipeline.required and settings[result.contract].required)
        for result in results
    ]


def check(
    pipeline: Pipeline | Path | str,
    contracts: Sequence[str] | None = None,
    options: RunOptions | None = None,
    *,
    progress: Stages | None = None,
    thorough: bool = False,
    **fields: Any,
) -> list[ContractRecord]:
    """Check contracts of a pipeline without a whole run.

    Args:
        contracts: names; None for all that the YAML declares. One that is not declared runs with
            its defaults.
        options, fields: as in ``exporter.run``. A finished run may lie in the output folder,
            nothing is written to it; probes are cut from the first case.
        thorough: more sizes, orders and cases, whatever they cost.

    Raises:
        ConfigError: no such contract, a wrong option, or nothing to check.
        UserInputError: the pipeline or its weights cannot be used.
    """
    options = RunOptions.given(options, fields)
    pipeline = options.opened(pipeline)
    progress = progress or Progress(quiet=True)
    settings: dict[str, Any] = dict(
        declared_settings(pipeline.contracts, pipeline=pipeline, only=contracts or None)
    )
    if not settings:
        raise ConfigError(
            f"pipeline '{pipeline.name}' declares no contracts",
            where=pipeline.where("contracts"),
            remedy="add a 'contracts' section, or name one with --contract",
        )
    if pipeline.file_alone is not None:
        results = check_file(pipeline, options, settings, progress, thorough)
    else:
        with options.taken(pipeline, progress, writes=False):
            results = _checked(pipeline, options, settings, progress, thorough)
    return contract_records(pipeline, results, only=contracts or None)


def _checked(
    pipeline: Pipeline,
    options: RunOptions,
    settings: Mapping[str, Any],
    progress: Stages,
    thorough: bool,
) -> list[ContractResult]:
    with progress.stage("wrap") as stage:
        wrapped = wrap(pipeline)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        stage.result(f"weights: {wrapped.weights.source}")
    artifacts = finished_run(pipeline, wrapped, options.folder(pipeline))
    if artifacts and artifacts.complete:
        wrapped = narrowed(wrapped, artifacts.program)
    cases = load_cases(pipeline, wrapped.inputs, choose_cases(pipeline, options.cases))
    target = contract_target(
        pipeline,
        wrapped,
        cases,
        artifacts,
        deployment=Deployment(threads=options.threads or 0),
        thorough=thorough,
    )
    results: list[ContractResult] = []
    for name, wanted in settings.items():
        with progress.stage(name) as stage:
            found = run_contracts(target, {name: wanted}, pipeline=pipeline)
            stage.result(", ".join(f"{item.side}: {item.status}" for item in found))
        results += found
    return results


def left_out(records: Sequence[ContractRecord]) -> list[str]:
    """Contracts that say nothing because the pipeline does not declare them."""
    return sorted(set(CONTRACTS) - {record.contract for record in records})
