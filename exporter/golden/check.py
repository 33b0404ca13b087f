"""Check an ONNX file against a golden. Needs onnx and onnxruntime, no PyTorch.

The golden was recorded from PyTorch; here only the file runs: once as it is deployed, for its
outputs, and once in windows on its own values, for a sketch of every layer.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from exporter.cases.load import choose_cases, load_cases
from exporter.config import Pipeline
from exporter.core.errors import GoldenError, UserInputError
from exporter.core.tensors import Case
from exporter.execution.trial import is_own, try_file
from exporter.golden.compare_graph import compare_graph, structure_decides
from exporter.golden.compare_interface import compare_interface
from exporter.golden.judge import judge_case
from exporter.golden.observe import Observer, input_digests, interface_of, node_prints
from exporter.golden.outcome import (
    CaseOutcome,
    Changed,
    CheckOutcome,
    LayerMove,
    State,
    changed,
    worst,
)
from exporter.golden.records import FUSED, Golden, GoldenCase
from exporter.golden.store import MANIFEST, TamperedError, exists, read_golden
from exporter.report.environment import describe_environment
from exporter.report.schema import EnvironmentRecord

INTERFACE = "(interface)"
"""What stands for the file's interface where cases are listed; no case can have this name."""


COVERAGE = "(coverage)"
"""The same for how much of the golden the file still holds."""


def check_golden(
    pipeline: Pipeline,
    folder: Path,
    onnx: Path,
    *,
    threads: int | None = None,
    provider: str | None = None,
    cases: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
    options: Sequence[str] = (),
    try_first: bool = False,
) -> CheckOutcome:
    """Judge ``onnx`` against the golden in ``folder``.

    Args:
        threads, provider: of onnxruntime; as recorded by default.
        cases: only these; what is left out is said.
        progress: told each case as it begins.
        options: what leads other commands to the run folder, for the advice.
        try_first: run a file that this program did not make in a process of its own first.

    Raises:
        UserInputError: the file, a case, a recording or the provider cannot be used.

    A golden that is missing or tampered with is an outcome, not an error.
    """
    name = pipeline.name
    if not exists(folder):
        return CheckOutcome(
            pipeline=name,
            golden=str(folder),
            onnx=str(onnx),
            problem=State.MISSING,
            reason=f"there is no golden in {folder}",
        )
    try:
        golden = read_golden(folder)
    except TamperedError as error:
        return tampered(pipeline, folder, error)
    if golden.pipeline != name:
        raise GoldenError(
            f"this is the golden of pipeline '{golden.pipeline}', not of '{name}'",
            where=str(folder / MANIFEST),
            remedy="give the folder that belongs to the pipeline",
        )
    names = choose_cases(pipeline, cases, all_cases=not cases)
    check = _Check(pipeline, golden, folder, onnx, threads, provider, options)
    return check.run(names, progress, try_first=try_first)


def tampered(pipeline: Pipeline, folder: Path, error: TamperedError) -> CheckOutcome:
    """The outcome for a golden that is not what was recorded."""
    return CheckOutcome(
        pipeline=pipeline.name,
        golden=str(folder),
        problem=State.TAMPERED,
        reason=f"{error.where}: {error.problem}",
        advice=error.remedy or "",
    )


class _Check:
    """One check: the golden, the file, and how it is run."""

    def __init__(
        self,
        pipeline: Pipeline,
        golden: Golden,
        folder: Path,
        onnx: Path,
        threads: int | None,
        provider: str | None,
        options: Sequence[str],
    ):
        from exporter.execution.onnxruntime import Deployment, check_provider
        from exporter.graph.index import index_graph
        from exporter.graph.onnx_file import open_artifact

        self.pipeline, self.golden, self.folder, self.onnx = pipeline, golden, folder, onnx
        self.options = options
        self.artifact, model = open_artifact(onnx)
        self.graph = index_graph(model, onnx.parent)
        self.deployment = Deployment(
            provider=check_provider(provider or golden.run["provider"]),
            level=golden.run["level"],
            threads=threads or golden.run["threads"],
        )

    def run(
        self, names: Sequence[str], progress: Callable[[str], None], *, try_first: bool
    ) -> CheckOutcome:
        golden = self.golden
        environment = self._environment()
        structure = compare_graph(golden.nodes, node_prints(self.graph, golden.taps), golden.taps)
        decides = structure_decides(environment)
        outcomes, cases = self._cases(names)
        moved, runs = self._interface()
        outcomes += moved
        if not runs:
            outcomes += [_not_taken(expected) for expected, _ in cases]
            cases = []
        if cases:
            if try_first and not is_own(self.onnx):
                progress("the file in a process of its own")
                try_file(self.onnx, [self.deployment], [case for _, case in cases])
            outcomes += self._judged(cases, structure if decides else (), progress)
        outcomes += self._coverage(outcomes)
        return CheckOutcome(
            pipeline=self.pipeline.name,
            golden=str(self.folder),
            onnx=str(self.onnx),
            cases=tuple(outcomes),
            numbers=worst(tuple(outcome.state for outcome in outcomes)),
            environment=environment,
            structure=structure,
            structure_decides=decides,
            max_ambiguous=self.pipeline.parity.max_ambiguous,
            notes=(*self._not_checked(names), *self._notes(structure, decides)),
            advice=self._advice(outcomes),
        )

    def _judged(
        self,
        cases: Sequence[tuple[GoldenCase, Case]],
        structure: tuple[LayerMove, ...],
        progress: Callable[[str], None],
    ) -> Iterator[CaseOutcome]:
        golden = self.golden
        size = int(golden.run["window_bytes"])
        observer = Observer(self.onnx, self.graph, golden.taps, self.deployment, size)
        for expected, case in cases:
            progress(case.name)
            observed = observer.run(case.inputs, [tap.sketch.elements for tap in expected.taps])
            yield judge_case(expected, golden.taps, observed, structure)

    def _interface(self) -> tuple[list[CaseOutcome], bool]:
        """What differs in the interface as an outcome of its own, and whether cases can run."""
        same = self.pipeline.graph_digest == self.golden.graph_digest
        opset = self.pipeline.export.opset if same else None
        found = compare_interface(self.golden, interface_of(self.graph), opset=opset)
        if not found:
            return [], True
        reason = "; ".join(difference.text for difference in found)
        outcome = CaseOutcome(case=INTERFACE, state=State.MOVED, reason=reason)
        return [outcome], not any(difference.blocks for difference in found)

    def _coverage(self, outcomes: Sequence[CaseOutcome]) -> list[CaseOutcome]:
        """What the pipeline's ``min_coverage`` says of the layers that the file still holds.

        The share is that of a run: taps that are compared, or were fused into one at recording.
        """
        least = self.pipeline.min_coverage
        fused = sum(
            tap.fate == FUSED
            and tap.onnx_name not in self.graph.producer
            and tap.onnx_name not in self.graph.initializers
            for tap in self.golden.taps
        )
        walked = [case for case in outcomes if case.compared + case.lost]
        shares = {
            case.case: (case.compared + min(fused, case.lost)) / (case.compared + case.lost)
            for case in walked
        }
        short = {name: share for name, share in shares.items() if least and share < least}
        if not short or any(case.state is State.MOVED for case in walked):
            return []
        name, share = min(short.items(), key=lambda held: held[1])
        reason = (
            f"case '{name}': {share:.4g} of the layers are in the file, min_coverage: {least:g}"
        )
        return [CaseOutcome(case=COVERAGE, state=State.MISSING, reason=reason)]

    def _environment(self) -> tuple[Changed, ...]:
        record = describe_environment(self.deployment.threads, (self.deployment.provider,))
        return changed(self.golden.environment, flat_environment(record))

    def _cases(
        self, chosen: Sequence[str]
    ) -> tuple[list[CaseOutcome], list[tuple[GoldenCase, Case]]]:
        """Cases that cannot be judged, with the reason, and those that can."""
        known = [case.name for case in self.pipeline.cases]
        recorded = [case.name for case in self.golden.cases]
        found = [
            CaseOutcome(
                case=name,
                state=State.MISSING,
                reason="the pipeline has this case, the golden does not",
            )
            for name in chosen
            if name not in recorded and name not in self.golden.left_out
        ]
        found += [
            CaseOutcome(case=name, state=State.MOVED, reason="the pipeline no longer has this case")
            for name in recorded
            if name not in known
        ]
        held = [case for case in self.golden.cases if case.name in chosen]
        names = [case.name for case in held]
        loaded = []
        for expected, case in zip(
            held, load_cases(self.pipeline, self.golden.inputs, names), strict=True
        ):
            digests = input_digests(case.inputs)
            other = [name for name in digests if expected.inputs.get(name) != digests[name]]
            if other:
                reason = f"the input(s) {', '.join(other)} are not those that were recorded"
                found.append(CaseOutcome(case=case.name, state=State.MOVED, reason=reason))
            else:
                loaded.append((expected, case))
        return found, loaded

    def _not_checked(self, chosen: Sequence[str]) -> Iterator[str]:
        known = [case.name for case in self.pipeline.cases]
        left = [case.name for case in self.golden.cases if case.name not in chosen]
        if skipped := [name for name in left if name in known]:
            yield f"not checked, on demand: case(s) {', '.join(skipped)}"
        if self.golden.left_out:
            yield f"not recorded, on demand: case(s) {', '.join(self.golden.left_out)}"

    def _notes(self, structure: tuple[LayerMove, ...], decides: bool) -> Iterator[str]:
        recorded = self.golden.run["threads"]
        if self.deployment.threads != recorded:
            yield f"threads: {recorded} at recording, {self.deployment.threads} now"
        if self.pipeline.graph_digest != self.golden.graph_digest:
            yield "the pipeline's sections that decide the graph have changed since recording"
        metadata = self.artifact.metadata
        made_for = metadata.get("export_verify.graph_digest")
        if made_for is None:
            yield "the file does not say which pipeline it was exported from"
        elif made_for != self.golden.graph_digest:
            yield "the file was exported from another state of the pipeline"
        weights = metadata.get("export_verify.weights_digest")
        if weights is not None and weights != self.golden.weights["digest"]:
            yield "the file holds other weights than those that were recorded"
        if structure and not decides:
            yield (
                f"{len(structure)} nodes of the graph differ; the packages that make it do too, so "
                "this decides nothing"
            )

    def _advice(self, outcomes: Sequence[CaseOutcome]) -> str:
        if all(o.state in (State.SAME, State.WITHIN_ROUNDING) for o in outcomes):
            return ""
        path = self.pipeline.file
        verify = shlex.join(
            ["export-verify", "verify", path, "--onnx", str(self.onnx), *self.options]
        )
        record = record_command(self.pipeline, self.folder, self.options)
        return f"{verify} (judges the file against PyTorch); if the change is meant: {record}"


def _not_taken(expected: GoldenCase) -> CaseOutcome:
    reason = "not run: the file does not take the inputs that were recorded"
    return CaseOutcome(case=expected.name, state=State.MOVED, reason=reason)


def flat_environment(record: EnvironmentRecord) -> dict[str, str]:
    """What numbers depend on, name -> text. Threads are told apart: no one's numbers moved."""
    versions = dict(record.versions)
    # Two distributions of one package.
    if "onnxruntime-gpu" in versions:
        versions["onnxruntime"] = versions.pop("onnxruntime-gpu")
    return {
        **versions,
        "platform": record.platform,
        "cpu": " ".join(record.cpu_flags),
        "provider": ", ".join(record.providers),
    }


def record_command(pipeline: Pipeline, folder: Path, options: Sequence[str]) -> str:
    """The command that records the golden in ``folder`` anew."""
    place = [] if folder.parent == Path("golden") else ["--golden-dir", str(folder.parent)]
    words = ["export-verify", "golden", "record", pipeline.file, *place, *options]
    return f"{shlex.join(words)} --reason TEXT"


def find_onnx(pipeline: Pipeline, run_folder: Path) -> Path | None:
    """``model.onnx`` of an earlier run of this pipeline in its present state, if there is one."""
    path = run_folder / "model.onnx"
    if not path.is_file():
        return None
    from exporter.graph.onnx_file import read_model

    try:
        metadata = {item.key: item.value for item in read_model(path).metadata_props}
    except UserInputError:
        return None
    return path if metadata.get("export_verify.graph_digest") == pipeline.graph_digest else None
