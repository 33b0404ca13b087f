"""Check an ONNX file against a golden. Needs onnx and onnxruntime, no PyTorch.

The golden was recorded from PyTorch; here only the file runs: once as it is deployed, for its
outputs, and once in windows on its own values, for a sketch of every layer.

    store             the golden, every byte checked
    judge_file        on the cases whose inputs are those that were recorded:
    compare_interface what the file takes and gives
    compare_graph     its nodes, by digests
    observe           run it, reduce every layer to a sketch
    judge             outputs and layers, case by case
    outcome           one word
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from exporter.build.metadata import GRAPH_DIGEST, WEIGHTS_DIGEST
from exporter.cases.load import choose_cases, load_cases
from exporter.config import Pipeline
from exporter.core.errors import GoldenError
from exporter.core.tensors import Arrays, Case
from exporter.execution.deployment import Deployment
from exporter.execution.providers import check_provider
from exporter.golden.judge_file import Asked, judge_file
from exporter.golden.observe import input_digests
from exporter.golden.outcome import (
    CaseOutcome,
    CheckOutcome,
    State,
)
from exporter.golden.store import MANIFEST, TamperedError, exists, read_golden
from exporter.golden.values import Golden, GoldenCase
from exporter.graph.onnx_file import open_graph


def check_golden(
    pipeline: Pipeline,
    folder: Path,
    onnx: Path,
    *,
    threads: int | None = None,
    provider: str | None = None,
    deployment: Deployment | None = None,
    cases: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
    options: Sequence[str] = (),
    try_first: bool = False,
) -> CheckOutcome:
    """Judge ``onnx`` against the golden in ``folder``.

    Args:
        threads, provider: of onnxruntime; as recorded by default.
        deployment: all of how the file is run, instead of what was recorded.
        cases: only these; what is left out is said.
        progress: told each case as it begins.
        options: what leads other commands to the run folder, for the advice.
        try_first: run a file that this program did not make in a process of its own first.

    Raises:
        UserInputError: the file, a case, a recording or the provider cannot be used.

    A golden that is missing or tampered with is an outcome, not an error.
    """
    empty = CheckOutcome(pipeline=pipeline.name, golden=str(folder))
    try:
        golden = read_golden(folder) if exists(folder) else None
    except TamperedError as error:
        reason = f"{error.where}: {error.problem}"
        return replace(empty, problem=State.TAMPERED, reason=reason, advice=error.remedy or "")
    empty = replace(empty, onnx=str(onnx))
    if golden is None:
        return replace(empty, problem=State.MISSING, reason=f"there is no golden in {folder}")
    if golden.pipeline != pipeline.name:
        raise GoldenError(
            f"this is the golden of pipeline '{golden.pipeline}', not of '{pipeline.name}'",
            where=str(folder / MANIFEST),
            remedy="give the folder that belongs to the pipeline",
        )
    empty = replace(empty, vouched=golden.vouched)
    chosen = choose_cases(pipeline, cases, all_cases=not cases)
    graph = open_graph(onnx)
    deployment = deployment or Deployment(
        provider=provider or golden.run["provider"],
        level=golden.run["level"],
        threads=threads or golden.run["threads"],
    )
    check_provider(deployment.provider)
    recorded = [case for case in golden.cases if case.name in chosen]
    loaded = load_cases(pipeline, golden.inputs, [case.name for case in recorded])
    outcomes, usable = _usable(pipeline, golden, chosen, zip(recorded, loaded, strict=True))
    metadata = {item.key: item.value for item in graph.model.metadata_props}
    judged = judge_file(
        golden,
        asked_of(pipeline),
        usable,
        graph,
        onnx,
        deployment,
        empty,
        outcomes=outcomes,
        try_first=try_first,
        progress=progress,
    )
    notes = [
        *_not_checked(pipeline, golden, chosen),
        *_notes(pipeline, golden, deployment.threads, metadata),
    ]
    return replace(
        judged,
        notes=(*notes, *judged.notes),
        advice=_advice(pipeline, folder, onnx, options, judged.cases),
    )


def asked_of(pipeline: Pipeline) -> Asked:
    """What the pipeline asks of a check."""
    return Asked(
        graph_digest=pipeline.graph_digest,
        opset=pipeline.export.opset,
        min_coverage=pipeline.min_coverage,
        max_ambiguous=pipeline.parity.max_ambiguous,
        names=pipeline.model.names,
    )


def theirs(pipeline: Pipeline, inputs: Arrays) -> dict[str, np.ndarray]:
    """Inputs of a case under the names that a file alone has for them."""
    return asked_of(pipeline).theirs(inputs)


def _usable(
    pipeline: Pipeline,
    golden: Golden,
    chosen: Sequence[str],
    loaded: Iterable[tuple[GoldenCase, Case]],
) -> tuple[list[CaseOutcome], list[tuple[GoldenCase, Case]]]:
    """Cases that cannot be judged, with the reason, and those that can."""
    known = {case.name for case in pipeline.cases}
    recorded = {case.name: case for case in golden.cases}
    absent = "the pipeline has this case, the golden does not"
    outcomes = [
        CaseOutcome(case=name, state=State.MISSING, reason=absent)
        for name in chosen
        if name not in recorded and name not in golden.left_out
    ]
    outcomes += [
        CaseOutcome(case=name, state=State.MOVED, reason="the pipeline no longer has this case")
        for name in recorded
        if name not in known
    ]
    usable = []
    for expected, case in loaded:
        digests = input_digests(case.inputs)
        other = [name for name in digests if expected.inputs.get(name) != digests[name]]
        if other:
            reason = f"the input(s) {', '.join(other)} are not those that were recorded"
            outcomes.append(CaseOutcome(case=case.name, state=State.MOVED, reason=reason))
        else:
            usable.append((expected, case))
    return outcomes, usable


def _not_checked(pipeline: Pipeline, golden: Golden, chosen: Sequence[str]) -> Iterator[str]:
    known = [case.name for case in pipeline.cases]
    left = [case.name for case in golden.cases if case.name not in chosen]
    if skipped := [name for name in left if name in known]:
        yield f"not checked, on demand: case(s) {', '.join(skipped)}"
    if golden.left_out:
        yield f"not recorded, on demand: case(s) {', '.join(golden.left_out)}"


def _notes(
    pipeline: Pipeline, golden: Golden, threads: int, metadata: Mapping[str, str]
) -> Iterator[str]:
    if threads != golden.run["threads"]:
        yield f"threads: {golden.run['threads']} at recording, {threads} now"
    if not golden.vouched:
        return
    if pipeline.graph_digest != golden.graph_digest:
        yield "the pipeline's sections that decide the graph have changed since recording"
    made_for = metadata.get(GRAPH_DIGEST)
    if made_for is None:
        yield "the file does not say which pipeline it was exported from"
    elif made_for != golden.graph_digest:
        yield "the file was exported from another state of the pipeline"
    weights = metadata.get(WEIGHTS_DIGEST)
    if weights is not None and weights != golden.weights["digest"]:
        yield "the file holds other weights than those that were recorded"


def _advice(
    pipeline: Pipeline,
    folder: Path,
    onnx: Path,
    options: Sequence[str],
    outcomes: Sequence[CaseOutcome],
) -> str:
    if all(o.state in (State.SAME, State.WITHIN_ROUNDING) for o in outcomes):
        return ""
    verify = shlex.join(["export-verify", "verify", pipeline.file, "--onnx", str(onnx), *options])
    record = record_command(pipeline, folder, options)
    return f"{verify} (judges the file against PyTorch); if the change is meant: {record}"


def record_command(pipeline: Pipeline, folder: Path, options: Sequence[str]) -> str:
    """The command that records the golden in ``folder`` anew."""
    place = [] if folder.parent == Path("golden") else ["--golden-dir", str(folder.parent)]
    words = ["export-verify", "golden", "record", pipeline.file, *place, *options]
    return f"{shlex.join(words)} --reason TEXT"
