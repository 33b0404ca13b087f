"""Judge a given ONNX file against a pipeline, instead of exporting one.

The PyTorch side comes from a finished run of the same pipeline in the output folder; without one
the pipeline is built there first. The given file is only read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir
import torch
from onnx import ModelProto

from exporter.artifact import Artifact
from exporter.build import PREFIX, build, metadata_of, users_code
from exporter.cases.load import load_cases
from exporter.chain import Chain, ChainResult, Subject
from exporter.config import Pipeline
from exporter.errors import StageError
from exporter.graph.export import check_interface
from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.onnx_file import open_artifact, read_model
from exporter.graph.program import Program
from exporter.graph.program_file import load_program
from exporter.graph.structure import Difference, diff_structure
from exporter.graph.taps import COMPARED, plan_taps
from exporter.graph.wrap import Wrapped, wrap
from exporter.make_report import make_report, not_checked_always, policy_of, write_reports
from exporter.parity.status import Status
from exporter.pipeline import prepare, sized_cases
from exporter.record import artifact_record
from exporter.report.schema import LinkRecord, Report, StructureRecord
from exporter.stages import Stages, Station


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """What the pipeline's own run left: the reference, and the file that it shipped."""

    program: Program
    graph: GraphIndex
    metadata: dict[str, str]


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
    own = _own_run(pipeline, wrapped, options.output_dir, options.threads, progress)
    given = index_graph(model, onnx.parent)
    descends = _descends(artifact, own)
    folder = options.output_dir / "verify"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)
    loaded = load_cases(pipeline, wrapped.inputs, options.cases)
    problems = _interface(model, wrapped)
    notes = [_taps_note(descends)]
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
    write_reports(report, folder)
    return report


def _own_run(
    pipeline: Pipeline, wrapped: Wrapped, folder: Path, threads: int, progress: Stages
) -> _Own:
    """The finished run in ``folder`` if it is of this pipeline and weights, else a new one."""
    expected = metadata_of(pipeline, wrapped)
    keys = (f"{PREFIX}graph_digest", f"{PREFIX}weights_digest")
    shipped = folder / "model.onnx"
    if shipped.is_file() and (folder / "program" / "ops.json").is_file():
        artifact, model = open_artifact(shipped)
        if all(artifact.metadata.get(key) == expected[key] for key in keys):
            return _Own(
                program=load_program(folder / "program"),
                graph=index_graph(model, folder),
                metadata=dict(artifact.metadata),
            )
    try:
        built = build(pipeline, folder, progress, prepare=lambda: torch.set_num_threads(threads))
    except StageError as error:
        raise StageError(error.stage, error.detail, finished=tuple(progress.timings)) from error
    return _Own(
        program=built.program,
        graph=index_graph(read_model(built.shipped.path), folder),
        metadata=dict(built.shipped.metadata),
    )


def _descends(artifact: Artifact, own: _Own) -> bool:
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


def _tap_names(own: _Own) -> list[str]:
    return [tap.onnx_name for tap in plan_taps(own.program, own.graph)]


def _compared(own: _Own) -> frozenset[str]:
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
