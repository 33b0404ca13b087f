"""Judge a given ONNX file against a pipeline, instead of exporting one.

The PyTorch side comes from a finished run of the same pipeline in the output folder; without one
the pipeline is exported below it first. So it is for a file that is not this package's: its values
are known by the names that torch gives them, and such an export has those. The given file is only
read.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from exporter.cases.load import load_cases
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import StageError
from exporter.core.stages import Stages
from exporter.flows.given_file import TO_GIVEN, GivenFile, judge_given
from exporter.flows.prepare import Prepared, prepare
from exporter.flows.report_parts import judged_report
from exporter.flows.stopped import stopped_report
from exporter.graph.certificate import check_certificate
from exporter.graph.onnx_file import open_artifact
from exporter.graph.wrap import wrap
from exporter.judge.chain_result import ChainResult
from exporter.judge.interface import interface_problems
from exporter.judge.report_records import artifact_record
from exporter.report.progress import Progress
from exporter.report.schema import Report
from exporter.report.write import clear_reports, write_reports


def verify(
    pipeline: Pipeline | Path | str,
    onnx: Path,
    options: RunOptions | None = None,
    *,
    progress: Stages | None = None,
    changed_on_purpose: bool = False,
    layers_alone: bool = False,
    **fields: Any,
) -> Report:
    """Judge the file ``onnx`` against a pipeline; other arguments as in ``exporter.run``.

    With ``changed_on_purpose`` a file that descends from the pipeline's export may differ from it
    as optimisers make files differ: what they do is listed, and numbers judge. Nobody but the
    caller can say so: what a file tells of the tools that wrote it, any tool can have written. A
    pipeline that declares a lower precision says so of a file that holds it. With ``layers_alone``
    its layers are judged one by one, and what they do at the outputs is left to the caller.

    Writes ``verify/report.json`` and its renderings below the output folder.

    Raises:
        ArtifactError: the file is unreadable, or onnxruntime refuses to load it.
        UserInputError: as in ``exporter.run``.
    """
    began = time.perf_counter()
    ready = prepare(pipeline, RunOptions.given(options, fields))
    progress = progress or Progress(quiet=True)
    with ready.options.taken(ready.pipeline, progress):
        return _verified(ready, Path(onnx), progress, began, changed_on_purpose, layers_alone)


def _verified(
    ready: Prepared,
    onnx: Path,
    progress: Stages,
    began: float,
    changed_on_purpose: bool,
    layers_alone: bool,
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
    finished: dict[str, Any] = {"finished_run": (ready.folder / "report.json").is_file()}
    cases = load_cases(pipeline, wrapped.inputs, ready.cases)
    certified = _certificate_note(onnx)
    if problems := interface_problems(given, wrapped):
        reason = f"the file is not this pipeline as one graph: {'; '.join(problems)}"
        found = GivenFile(result=ChainResult.failed(TO_GIVEN, reason), cases=cases)
    else:
        try:
            found = judge_given(
                ready,
                artifact,
                given,
                wrapped,
                cases,
                progress,
                changed_on_purpose=changed_on_purpose,
                layers_alone=layers_alone,
            )
        except StageError as error:
            finished |= {"links": [TO_GIVEN], "guilty": TO_GIVEN, "timings": progress.timings}
            report = stopped_report(ready, error, folder=folder, **finished)
            write_reports(report, folder)
            return report
    report = judged_report(
        ready,
        found.cases,
        found.result,
        contracts=found.contracts,
        weights=wrapped.weights,
        tokens=wrapped.tokens,
        artifacts=[artifact_record(artifact, made=False)],
        notes=[*found.notes[:1], *certified, *found.notes[1:]],
        not_checked=found.not_checked,
        timings={**progress.timings, "total": time.perf_counter() - began},
        structure=list(found.structure),
        takes=list(found.takes),
        fallback=found.fallback,
        layers=pipeline.layers or ("required" if pipeline.min_coverage else "wanted"),
        **finished,
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
