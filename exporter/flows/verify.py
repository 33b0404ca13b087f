"""Judge a given ONNX file against a pipeline, instead of exporting one.

The PyTorch side comes from a finished run of the same pipeline in the output folder; without one
the pipeline is exported below it first. So it is for a file that is not this package's: its values
are known by the names that torch gives them, and such an export has those. The given file is only
read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from exporter.build.build import users_code
from exporter.build.metadata import EXPORT_DIGEST, VALUE_NAMES
from exporter.cases.at_lengths import sized_cases
from exporter.cases.load import load_cases
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import StageError
from exporter.core.stages import Stages, Station
from exporter.execution.trial import try_file
from exporter.flows.prepare import Prepared, prepare
from exporter.flows.report_parts import judged_report
from exporter.flows.stopped import stopped_report
from exporter.graph.certificate import check_certificate, is_own
from exporter.graph.onnx_file import open_artifact
from exporter.graph.wrap import narrowed, wrap
from exporter.judge.chain import Chain, Subject
from exporter.judge.chain_result import ChainResult
from exporter.judge.changes import structure_records
from exporter.judge.interface import interface_problems
from exporter.judge.joined_taps import joined_taps
from exporter.judge.known_taps import known_taps
from exporter.judge.links import CAPTURED, Link
from exporter.judge.lowered import lowered_as_declared
from exporter.judge.reference_run import reference_run
from exporter.judge.report_records import artifact_record
from exporter.parity.status import Status
from exporter.parity.tolerance import policy_of
from exporter.report.comparison import LinkRecord, StructureRecord
from exporter.report.progress import Progress
from exporter.report.schema import CHECK_STRUCTURE, CheckRecord, Report
from exporter.report.write import clear_reports, write_reports

_TO_GIVEN = Link(expected=CAPTURED, actual="given")


def verify(
    pipeline: Pipeline | Path | str,
    onnx: Path,
    options: RunOptions | None = None,
    *,
    progress: Stages | None = None,
    changed_on_purpose: bool = False,
    **fields: Any,
) -> Report:
    """Judge the file ``onnx`` against a pipeline; other arguments as in ``exporter.run``.

    With ``changed_on_purpose`` a file that descends from the pipeline's export may differ from it
    as optimisers make files differ: what they do is listed, and numbers judge. Nobody but the
    caller can say so: what a file tells of the tools that wrote it, any tool can have written. A
    pipeline that declares a lower precision says so of a file that holds it.

    Writes ``verify/report.json`` and its renderings below the output folder.

    Raises:
        ArtifactError: the file is unreadable, or onnxruntime refuses to load it.
        UserInputError: as in ``exporter.run``.
    """
    began = time.perf_counter()
    ready = prepare(pipeline, RunOptions.given(options, fields))
    progress = progress or Progress(quiet=True)
    with ready.options.taken(ready.pipeline, progress):
        return _verified(ready, Path(onnx), progress, began, changed_on_purpose)


def _verified(
    ready: Prepared, onnx: Path, progress: Stages, began: float, changed_on_purpose: bool
) -> Report:
    pipeline = ready.pipeline
    with progress.stage("read the file") as stage:
        artifact, given = open_artifact(onnx)
        stage.result(f"{artifact.nodes} nodes")
    with progress.stage("wrap") as stage:
        wrapped = wrap(pipeline)
        torch.set_num_threads(ready.threads)
        stage.result(f"weights: {wrapped.weights.source}")
    folder = ready.folder / "verify"
    folder.mkdir(parents=True, exist_ok=True)
    clear_reports(folder)
    finished_run = (ready.folder / "report.json").is_file()
    loaded = load_cases(pipeline, wrapped.inputs, ready.cases)
    problems = interface_problems(given, wrapped)
    notes = _certificate_note(onnx)
    structure: list[StructureRecord] = []
    tapped, fallback = False, ""
    if problems:
        result = _not_comparable(problems)
    else:
        if not is_own(onnx):
            with progress.stage("try the file"):
                try_file(onnx, ready.deployments, loaded)
        try:
            own = reference_run(
                pipeline,
                wrapped,
                ready.folder,
                ready.threads,
                progress,
                # Values of a file of somebody else's are known by the names that torch gave them.
                names_of_torch=EXPORT_DIGEST not in artifact.metadata
                or VALUE_NAMES in artifact.metadata,
            )
        except StageError as error:
            report = stopped_report(
                ready,
                error,
                folder=folder,
                links=[_TO_GIVEN],
                guilty=_TO_GIVEN,
                timings=progress.timings,
                finished_run=finished_run,
            )
            write_reports(report, folder)
            return report
        wrapped, fallback = narrowed(wrapped, own.program), own.program.fallback
        loaded = load_cases(pipeline, wrapped.inputs, ready.cases)
        taps = known_taps(artifact.metadata, given, own)
        if not taps.tapped:
            with progress.stage("join its values"):
                taps = joined_taps(taps, given, own, loaded)
        tapped = taps.tapped
        notes.insert(0, taps.note)
        subject = Subject(
            module=wrapped.module,
            program=own.program,
            inputs=wrapped.inputs,
            outputs=wrapped.outputs,
            stations=(Station(name="given", path=onnx, stage="given file"),),
            expected_taps=taps.expected,
            known_taps=taps.known,
            names=taps.names,
            joins=taps.joins,
            tapped=tapped,
            states=wrapped.states,
        )
        chain = Chain(subject, policy_of(pipeline), ready.deployments, ready.budget, progress)
        with users_code(pipeline):
            result = chain.judge(
                loaded, sized_cases(pipeline, wrapped.inputs, loaded), pipeline.min_coverage
            )
        if taps.descends:
            # Whoever declares a lower precision knows that a tool has rewritten the file.
            lowered = lowered_as_declared(own.program, given, policy_of(pipeline))
            on_purpose = changed_on_purpose or lowered
            structure = structure_records(own.program, own.graph, given, on_purpose=on_purpose)
            notes += _purpose_note(structure) if on_purpose else []
    result = _with_structure(result, [item for item in structure if not item.accepted])
    report = judged_report(
        ready,
        loaded,
        result,
        weights=wrapped.weights,
        tokens=wrapped.tokens,
        artifacts=[artifact_record(artifact, made=False)],
        notes=notes,
        not_checked=() if tapped else ("layers: the file's values cannot be told apart by name",),
        timings={**progress.timings, "total": time.perf_counter() - began},
        structure=structure,
        fallback=fallback,
        layers=pipeline.layers or ("required" if pipeline.min_coverage else "wanted"),
        finished_run=finished_run,
    )
    write_reports(report, folder)
    return report


def _certificate_note(onnx: Path) -> list[str]:
    checked = check_certificate(onnx)
    if checked.certificate is None:
        return []
    if checked.changes:
        return [f"changed after it was certified: {line}" for line in checked.changes]
    verdict = checked.certificate.get("verdict")
    return [f"as it was certified, with the verdict '{verdict}'"]


def _purpose_note(structure: Sequence[StructureRecord]) -> list[str]:
    accepted = sum(item.accepted for item in structure)
    alone = len(structure) - accepted
    others = f"; {alone} are explained by no rewriting beside them and fail" if alone else ""
    return [
        f"changed on purpose: {accepted} differences to the export that it descends from are "
        f"judged by numbers{others}"
    ]


def _not_comparable(problems: list[str]) -> ChainResult:
    reason = "the file is not this pipeline as one graph: " + "; ".join(problems)
    link = LinkRecord(
        name=_TO_GIVEN.name,
        expected=_TO_GIVEN.expected,
        actual=_TO_GIVEN.actual,
        verdict=Status.FAIL.value,
        reason=reason,
    )
    return ChainResult(
        links=[link],
        outputs=[],
        culprits=[],
        statuses=[Status.FAIL],
        status=Status.FAIL,
        tokens={},
        shipped={},
        notes=[],
    )


def _with_structure(result: ChainResult, differences: Sequence[StructureRecord]) -> ChainResult:
    """A file that says it is our export and is not, fails, whether a number shows it or not."""
    if not differences:
        return result
    reason = f"{len(differences)} difference(s) of structure to the export that it descends from"
    check = CheckRecord(code=CHECK_STRUCTURE, verdict=Status.FAIL.value, reason=reason)
    return replace(result, checks=[*result.checks, check], status=Status.FAIL)
