"""Contracts of a pipeline as a part of its run: what they are checked on, and their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from exporter.build.artifacts import Artifacts
from exporter.build.build import BuildResult
from exporter.build.metadata import metadata_of, same_origin
from exporter.config import Pipeline
from exporter.contracts import ContractResult, Target, declared_settings, run_contracts
from exporter.contracts.make_target import target_from_wrapped
from exporter.contracts.onnx_side import opened
from exporter.contracts.stream.check import NAME as STREAM
from exporter.core.stages import Stages
from exporter.core.tensors import Case
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.flows.prepare import Prepared
from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import open_artifact
from exporter.graph.wrap import Wrapped
from exporter.judge.chain_result import OpenFile
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
    built: BuildResult,
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


def stream_of_given_file(
    ready: Prepared,
    wrapped: Wrapped,
    cases: Sequence[Case],
    path: Path,
    progress: Stages,
    known: Artifacts | None,
) -> list[ContractRecord]:
    """The contract ``stream`` with a given file in the place of the pipeline's own.

    Args:
        wrapped: as its own file takes it. cases: loaded.
        known: the pipeline's own run, if values of the file are known by the names of its program.
    """
    declared = {STREAM: ready.pipeline.contracts[STREAM]}
    taps = known.taps if known else None
    program = known.program if known else None
    with progress.stage(STREAM) as stage:
        file = opened(path, taps=taps, program=program, deployment=ready.deployments[0])
        target = target_from_wrapped(wrapped, cases, name=ready.pipeline.name, file=file)
        found = run_contracts(target, declared, pipeline=ready.pipeline)
        stage.result(", ".join(f"{item.side}: {item.status}" for item in found))
    return contract_records(ready.pipeline, found, only=[STREAM])


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
