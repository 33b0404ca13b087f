"""Judge a given ONNX file against a pipeline, instead of exporting one.

The PyTorch side comes from a finished run of the same pipeline in the output folder; without one
the pipeline is exported below it first. The given file is only read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import torch
from onnx import ModelProto

from exporter.artifact import Artifact
from exporter.build import PREFIX, users_code
from exporter.cases.load import load_cases
from exporter.chain import CAPTURED, Chain, ChainResult, Subject
from exporter.config import Pipeline
from exporter.errors import StageError
from exporter.graph.certificate import check_certificate
from exporter.graph.export import check_interface
from exporter.graph.index import index_graph
from exporter.graph.onnx_file import open_artifact
from exporter.graph.program import Program
from exporter.graph.structure import Difference, diff_structure
from exporter.graph.taps import COMPARED, plan_taps
from exporter.graph.wrap import Wrapped, wrap
from exporter.make_report import (
    clear_reports,
    make_report,
    not_checked_always,
    policy_of,
    write_reports,
)
from exporter.parity.status import Status
from exporter.pipeline import prepare, sized_cases
from exporter.record import artifact_record
from exporter.reference import Reference, reference_run
from exporter.report.schema import LinkRecord, Report, StructureRecord
from exporter.stages import Stages, Station
from exporter.stopped import stopped_report


def verify(
    pipeline: Pipeline,
    *,
    onnx: Path,
    output_dir: Path | str,
    progress: Stages,
    cases: Sequence[str] | None = None,
    all_cases: bool = False,
    audio: Sequence[Path] = (),
    weights: str | None = None,
    provider: str | None = None,
    threads: int | None = None,
    memory_budget: int | None = None,
    trust: bool = False,
) -> Report:
    """Judge the file ``onnx`` against a pipeline; arguments as in ``exporter.run``.

    Writes ``verify/report.json`` and ``verify/report.md`` below ``output_dir``.

    Raises:
        ArtifactError: the file is unreadable, or onnxruntime refuses to load it.
        UserInputError: as in ``exporter.run``.
    """
    began = time.perf_counter()
    pipeline, options = prepare(
        pipeline.with_trust() if trust else pipeline,
        Path(output_dir),
        cases,
        all_cases,
        audio,
        weights,
        provider,
        threads,
        memory_budget,
    )
    with progress.stage("read the file") as stage:
        artifact, model = open_artifact(onnx)
        stage.result(f"{artifact.nodes} nodes")
    with progress.stage("wrap") as stage:
        wrapped = wrap(pipeline)
        torch.set_num_threads(options.threads)
        stage.result(f"weights: {wrapped.weights.source}")
    folder = options.output_dir / "verify"
    folder.mkdir(parents=True, exist_ok=True)
    clear_reports(folder)
    finished_run = (options.output_dir / "report.json").is_file()
    try:
        own = reference_run(pipeline, wrapped, options.output_dir, options.threads, progress)
    except StageError as error:
        report = stopped_report(
            pipeline,
            options,
            error,
            folder=folder,
            links=[(CAPTURED, "given")],
            guilty=(CAPTURED, "given"),
            timings=progress.timings,
            finished_run=finished_run,
        )
        write_reports(report, folder)
        return report
    given = index_graph(model, onnx.parent)
    descends = _descends(artifact, own)
    loaded = load_cases(pipeline, wrapped.inputs, options.cases)
    problems = _interface(model, wrapped)
    notes = [_taps_note(descends), *_certificate_note(onnx)]
    differences = diff_structure(own.graph, given, taps=_tap_names(own)) if descends else ()
    if problems:
        result = _not_comparable(problems)
    else:
        subject = Subject(
            module=wrapped.module,
            program=own.program,
            inputs=wrapped.inputs,
            outputs=wrapped.outputs,
            stations=(Station(name="given", path=onnx, stage="given file"),),
            expected_taps=_compared(own) if descends else frozenset(),
            tapped=descends,
        )
        chain = Chain(subject, policy_of(pipeline), options.deployments, options.budget, progress)
        with users_code(pipeline):
            result = chain.judge(
                loaded, sized_cases(pipeline, wrapped.inputs, loaded), pipeline.min_coverage
            )
    result = _with_structure(result, differences)
    report = make_report(
        pipeline,
        options,
        loaded,
        result,
        weights=wrapped.weights,
        tokens=wrapped.tokens,
        artifacts=[artifact_record(artifact)],
        notes=[*notes, *result.notes],
        not_checked=[
            *not_checked_always(options, wrapped.weights.seeded),
            *(() if descends else ("layers: the file's values cannot be told apart by name",)),
        ],
        timings={**progress.timings, "total": time.perf_counter() - began},
        structure=[_structure_record(item, own.program) for item in differences],
    )
    report = report.model_copy(update={"finished_run": finished_run})
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


def _descends(artifact: Artifact, own: Reference) -> bool:
    """True when the file says that it came from this very export."""
    keys = (f"{PREFIX}export_digest", f"{PREFIX}graph_digest", f"{PREFIX}weights_digest")
    return all(
        key in own.metadata and artifact.metadata.get(key) == own.metadata[key] for key in keys
    )


def _taps_note(descends: bool) -> str:
    if descends:
        return "the file descends from this pipeline's export: its values are compared by name"
    return (
        "the file does not descend from this pipeline's export (its metadata does not say so):"
        " only its outputs are compared"
    )


def _tap_names(own: Reference) -> list[str]:
    return [tap.onnx_name for tap in plan_taps(own.program, own.graph)]


def _compared(own: Reference) -> frozenset[str]:
    taps = plan_taps(own.program, own.graph)
    return frozenset(tap.tap.name for tap in taps if tap.fate == COMPARED)


def _interface(model: ModelProto, wrapped: Wrapped) -> list[str]:
    """Why the file cannot even be run on what the pipeline takes; empty when it can."""
    names = {value.name for value in model.graph.input}
    wanted = [spec.name for spec in wrapped.inputs]
    takes_features = "waveform" in wanted and "waveform" not in names
    problems = []
    if takes_features:
        given = ", ".join(sorted(names)) or "nothing"
        parts = [name for name in ("vad", "fbank", "lfr", "cmvn") if hasattr(wrapped.module, name)]
        outside = {"vad": "VAD", "lfr": "LFR", "cmvn": "CMVN"}
        labels = ", ".join(outside.get(part, part) for part in parts)
        problems.append(
            f"it takes {given}, features and not a waveform: {labels} are outside the graph"
        )
    else:
        problems += [f"input '{name}' is missing" for name in wanted if name not in names]
    outputs = {value.name for value in model.graph.output}
    missing = [spec.name for spec in wrapped.outputs if spec.name not in outputs]
    if missing:
        problems.append(f"output(s) {', '.join(missing)} are missing")
    if not problems:
        try:
            check_interface(
                ir.from_proto(model),
                wrapped.inputs,
                wrapped.outputs,
                stage="verify",
            )
        except StageError as error:
            static = [p for p in error.detail.split("; ") if "constant" in p or "not used" in p]
            problems += static
    return problems


def _not_comparable(problems: list[str]) -> ChainResult:
    reason = "the file is not this pipeline as one graph: " + "; ".join(problems)
    link = LinkRecord(
        name="captured -> given",
        expected="captured",
        actual="given",
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


def _with_structure(result: ChainResult, differences: tuple[Difference, ...]) -> ChainResult:
    """A file that says it is our export and is not, fails, whether a number shows it or not."""
    if not differences:
        return result
    return replace(result, statuses=[*result.statuses, Status.FAIL], status=Status.FAIL)


def _structure_record(item: Difference, program: Program) -> StructureRecord:
    modules = {program.onnx_name(op.name): op.module for op in program.ops}
    return StructureRecord(
        kind=item.kind,
        node=item.node,
        name=item.name,
        expected=item.expected,
        actual=item.actual,
        tap=item.tap,
        layer=modules.get(item.tap or ""),
    )
