"""The stages of a run, from a pipeline to a report and a certified file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch

from exporter.build.build import BuildResult, build, users_code
from exporter.build.runner_script import write_runner
from exporter.cache.store import open_store
from exporter.cases.at_lengths import sized_cases
from exporter.cases.audio_input import seconds_of
from exporter.cases.load import load_cases
from exporter.contracts import declared_settings
from exporter.core.artifact import sha256_of
from exporter.core.errors import ArtifactError, StageError
from exporter.core.stages import Stages
from exporter.core.stopwatch import FILES, timed
from exporter.core.tensors import Case
from exporter.execution.latency import measure_latency
from exporter.flows.certify import certify_run
from exporter.flows.contracts_of_run import contracts_of_run
from exporter.flows.prepare import Prepared
from exporter.flows.report_parts import judged_report
from exporter.flows.stopped import ONNXRUNTIME
from exporter.graph.onnx_file import EXTERNAL_LIMIT
from exporter.judge.chain import Chain, Subject
from exporter.judge.length_proofs import LengthProofs
from exporter.judge.report_records import artifact_record, cache_record, plain_artifact
from exporter.judge.subject import Sizes
from exporter.parity.tolerance import policy_of
from exporter.report.schema import LatencyRecord, Report


def judged_run(ready: Prepared, progress: Stages) -> Report:
    """Build the graph, judge every link of the chain, check the contracts, certify the file.

    Raises:
        StageError, ModelError: a stage could not do its work.
    """
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
    latency = _latency(ready, built, loaded, progress) if ready.options.bench else []
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
        takes=built.program.takes(),
        not_checked=list(result.not_checked(built.program, simplified=bool(built.simplified))),
        made_of=built.made_of,
        fallback=built.program.fallback,
        layers=pipeline.layers or "required",
        cache=cache_record(built.cache),
    )
    report = report.model_copy(update={"latency": latency})
    with progress.stage("certify"), timed(FILES):
        return certify_run(report, built.shipped, pipeline, policy, ready.options.golden_dir)


def _latency(
    ready: Prepared, built: BuildResult, cases: Sequence[Case], progress: Stages
) -> list[LatencyRecord]:
    """What the shipped file takes on the first case; decides nothing."""
    case = cases[0]
    specs = {spec.name: spec for spec in built.wrapped.inputs}
    audio = seconds_of(case.inputs, specs, ready.pipeline.sample_rate_hz)
    with progress.stage("bench") as stage:
        found = measure_latency(built.shipped.path, ready.deployments, case.inputs)
        if found is None:
            stage.result("not measured: the file could not be run in a process of its own")
            return []
        stage.result(f"{found[0].rounds} round(s) of {len(found)} deployment(s)")
    return [
        LatencyRecord(**asdict(held), case=case.name, audio_seconds=audio or None) for held in found
    ]
