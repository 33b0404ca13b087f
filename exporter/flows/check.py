"""Check contracts of a pipeline without a whole run: on the artifacts of a finished one, if any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from exporter.cases.load import choose_cases, load_cases
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.contracts import ContractResult, declared_settings, run_contracts
from exporter.contracts.runner import CONTRACTS
from exporter.core.errors import ConfigError
from exporter.core.stages import Stages
from exporter.execution.deployment import Deployment
from exporter.flows.check_file import check_file
from exporter.flows.contracts_of_run import contract_records, contract_target, finished_run
from exporter.graph.wrap import narrowed, wrap
from exporter.report.progress import Progress
from exporter.report.schema import ContractRecord


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
            results_here = run_contracts(target, {name: wanted}, pipeline=pipeline)
            stage.result(", ".join(f"{item.side}: {item.status}" for item in results_here))
        results += results_here
    return results


def left_out(records: Sequence[ContractRecord]) -> list[str]:
    """Contracts that say nothing because the pipeline does not declare them."""
    return sorted(set(CONTRACTS) - {record.contract for record in records})
