"""A whole run: build the graph, walk the chain of comparisons, write the report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from exporter import __version__
from exporter.artifact import sha256_of
from exporter.build import Built, Stages, build
from exporter.cases.load import choose_cases, load_cases, with_size
from exporter.chain import Chain, ChainResult
from exporter.config import Pipeline
from exporter.environment import default_memory_budget, describe_environment, usable_cores
from exporter.errors import StageError, UserInputError
from exporter.execution.onnxruntime import Deployment, check_provider, present_providers
from exporter.parity.status import Status, exit_code
from exporter.parity.tolerance import Override, Policy
from exporter.record import artifact_record, case_record, plain_artifact
from exporter.report.schema import (
    ArtifactRecord,
    PipelineRecord,
    PolicyRecord,
    Report,
    WeightsRecord,
    write_report,
)
from exporter.runner_script import write_runner
from exporter.tensors import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a run is made; the same in every command that has them."""

    output_dir: Path
    cases: tuple[str, ...]
    deployments: tuple[Deployment, ...]
    threads: int
    budget: int


def run(
    pipeline: Pipeline,
    *,
    output_dir: Path | str,
    progress: Stages,
    cases: Sequence[str] | None = None,
    all_cases: bool = False,
    audio: Sequence[Path] = (),
    weights: str | None = None,
    provider: str | None = None,
    threads: int | None = None,
    memory_budget: int | None = None,
) -> Report:
    """Export a pipeline, simplify it, compare every stage and layer, write ``output_dir``.

    Args:
        cases: names of cases; None for the default one. all_cases: all of them.
        audio: recordings to add as cases.
        weights: replaces the pipeline's own.
        provider: "cpu", "cuda"; None for every one that this machine has.
        threads: intra-op threads of torch and onnxruntime; None for all cores.
        memory_budget: bytes that compared values may hold beyond the weights.

    Raises:
        UserInputError: pipeline, weights, case, recording or provider cannot be used.
        StageError: a stage could not do its work.
    """
    pipeline, options = _prepare(
        pipeline,
        Path(output_dir),
        cases,
        all_cases,
        audio,
        weights,
        provider,
        threads,
        memory_budget,
    )
    folder = options.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    # A report that describes other files than those beside it would be believed.
    (folder / "report.json").unlink(missing_ok=True)
    began = time.perf_counter()
    try:
        built = build(
            pipeline, folder, progress, prepare=lambda: torch.set_num_threads(options.threads)
        )
    except StageError as error:
        raise StageError(error.stage, error.detail, finished=tuple(progress.timings)) from error
    written = write_runner(
        folder,
        built.wrapped.inputs,
        pipeline.outputs,
        pipeline.sample_rate_hz,
        built.wrapped.tokens,
    )
    loaded = load_cases(pipeline, built.wrapped.inputs, options.cases)
    chain = Chain(built, policy_of(pipeline), options.deployments, options.budget, progress)
    result = chain.judge(loaded, _sized(pipeline, built, loaded), pipeline.min_coverage)
    report = _report(
        pipeline,
        options,
        built,
        loaded,
        result,
        {**progress.timings, "total": time.perf_counter() - began},
        [plain_artifact(folder / name, sha256_of(folder / name)) for name in written],
    )
    write_report(report, folder / "report.json")
    return report


def _prepare(
    pipeline: Pipeline,
    output_dir: Path,
    cases: Sequence[str] | None,
    all_cases: bool,
    audio: Sequence[Path],
    weights: str | None,
    provider: str | None,
    threads: int | None,
    memory_budget: int | None,
) -> tuple[Pipeline, Options]:
    if weights is not None:
        pipeline = pipeline.with_weights(weights)
    chosen = choose_cases(pipeline, cases, all_cases=all_cases)
    for path in audio:
        name = _case_name(path, {case.name for case in pipeline.cases})
        if not path.is_file():
            raise UserInputError(f"--audio: '{path}' is not a file", remedy="give a recording")
        pipeline = pipeline.with_recording(name, path.resolve())
        chosen = (*chosen, name)
    cores = threads or usable_cores()
    providers = (check_provider(provider),) if provider else present_providers()
    levels = pipeline.deploy.levels
    deployments = tuple(
        Deployment(provider=name, level=level, threads=cores)
        for name in providers
        for level in levels
    )
    return pipeline, Options(
        output_dir=output_dir,
        cases=chosen,
        deployments=deployments,
        threads=cores,
        budget=memory_budget or default_memory_budget(),
    )


def _case_name(path: Path, taken: set[str]) -> str:
    stem = "".join(c if c.isalnum() or c in "_.-" else "_" for c in path.stem)[:60]
    name = f"audio_{stem}"
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:6]
    return name if name not in taken else f"{name}_{digest}"


def _sized(pipeline: Pipeline, built: Built, cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """The first case at every length at which the pipeline wants the export proved."""
    specs = {spec.name: spec for spec in built.wrapped.inputs}
    return tuple(
        with_size(cases[0], specs[name], size)
        for name, sizes in pipeline.lengths.items()
        for size in sizes
    )


def policy_of(pipeline: Pipeline) -> Policy:
    """The parity policy that a pipeline declares."""
    given = pipeline.parity
    overrides = tuple(
        Override(pattern=item.taps, factor=item.factor, reason=item.reason)
        for item in given.overrides
    )
    precision = "int8" if given.precision == "int8_weights" else given.precision
    factor = {} if given.factor is None else {"factor": given.factor}
    return Policy(precision=precision, overrides=overrides, **factor)


def _report(
    pipeline: Pipeline,
    options: Options,
    built: Built,
    cases: tuple[Case, ...],
    result: ChainResult,
    timings: dict[str, float],
    extra: list[ArtifactRecord],
) -> Report:
    cap = pipeline.parity.max_ambiguous
    code = exit_code(
        [(status, pipeline.required) for status in result.statuses], ambiguous_cap=cap
    )
    weights = built.wrapped.weights
    return Report(
        tool_version=__version__,
        verdict=(Status.PASS if code == 0 else result.status).value,
        exit_code=code,
        headline=result.headline,
        pipeline=PipelineRecord(
            name=pipeline.name,
            digest=pipeline.digest,
            graph_digest=pipeline.graph_digest,
            file=pipeline.where().removesuffix(": "),
            weights=WeightsRecord(
                source=weights.source, digest=weights.digest, seeded=weights.seeded
            ),
        ),
        environment=describe_environment(
            options.threads, tuple(dict.fromkeys(d.provider for d in options.deployments))
        ),
        policy=PolicyRecord(
            factor=policy_of(pipeline).factor,
            precision=pipeline.parity.precision,
            overrides=[item.model_dump() for item in pipeline.parity.overrides],
            max_ambiguous=cap,
            min_coverage=pipeline.min_coverage,
        ),
        artifacts=[artifact_record(built.exported), artifact_record(built.shipped), *extra],
        links=result.links,
        culprits=result.culprits,
        outputs=result.outputs,
        cases=[
            case_record(case, _text(result.tokens.get(case.name), built.wrapped.tokens))
            for case in cases
        ],
        notes=result.notes,
        not_checked=result.not_checked,
        timings=timings,
    )


def _text(rows: list[list[int]] | None, tokens: tuple[str, ...] | None) -> list[str] | None:
    if rows is None:
        return None
    if tokens is None:
        return [" ".join(str(token) for token in row) for row in rows]
    return ["".join(tokens[token] for token in row) for row in rows]
