"""Record a golden from PyTorch, beside a run in which an exported file agreed with it.

Nothing is recorded from a run that did not pass: eager PyTorch, the captured program and the file
must agree first. The values are those of the captured program in float32, the limits come from
its float64 run; the file contributes witnesses only (digests that tell "same" from "within
rounding", and where a graph has changed), and must pass against the new golden before it is
written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exporter.build.artifacts import Artifacts
from exporter.cases.load import choose_cases, load_cases
from exporter.config import Pipeline
from exporter.core.artifact import sha256_of
from exporter.core.errors import GoldenError
from exporter.core.tensors import Arrays, Case, PlannedTap
from exporter.execution.deployment import Deployment
from exporter.golden.judge_case import Observed, judge_case, judge_tap
from exporter.golden.limits import direct_limits
from exporter.golden.observe import Observer, input_digests
from exporter.golden.outcome import GOOD, CaseOutcome
from exporter.golden.sketch import sketch
from exporter.golden.store import exists, read_golden, write_golden
from exporter.golden.values import Expected, Golden, GoldenCase, GoldenOutput
from exporter.golden.whole import STORED_BYTES, check_reason, whole_golden
from exporter.graph.onnx_file import open_graph
from exporter.graph.program import Program
from exporter.graph.taps import plan_taps
from exporter.interpret.margins import Margin, choice_of
from exporter.interpret.run_program import OpValues, walk_taps
from exporter.judge.links import CAPTURED, EAGER
from exporter.judge.second_opinion import SecondOpinion
from exporter.parity.compare import measure
from exporter.parity.measurement import Measurement
from exporter.parity.tolerance import Policy, natural_scale, policy_of
from exporter.report.beside import changed_file
from exporter.report.schema import REPORT, ArtifactRecord, Report

NEAR = 0.5
"""From this share of its limit on, a tap's float32 cost is taken from several draws."""


def record_golden(
    pipeline: Pipeline,
    report: Report,
    run_folder: Path,
    folder: Path,
    *,
    reason: str,
    cases: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Golden:
    """Record the golden of a pipeline from a run that passed.

    Args:
        report: of that run, with at least the cases that are recorded.
        run_folder: holds its ``program/`` and ``model.onnx``.
        folder: where the golden goes; what is there is replaced at one moment.
        reason: why, for whoever reads the manifest later.
        cases: names; all of the pipeline by default.

    Raises:
        GoldenError: the run did not pass, or is not of this pipeline and this file.
    """
    check_reason(reason)
    names = choose_cases(pipeline, cases, all_cases=cases is None)
    model_path = run_folder / "model.onnx"
    refuse_bad_run(pipeline, report, names, model_path)
    artifacts = Artifacts(folder=run_folder)
    program, inputs, graph = artifacts.program, artifacts.inputs, open_graph(model_path)
    planned = plan_taps(program, graph)
    # A check has no bfloat16: what the file gives in it is float32 there.
    taps = tuple(
        replace(tap, dtype="float32") if tap.dtype == "bfloat16" else tap for tap in planned
    )
    deployment = Deployment(
        provider=report.environment.providers[0],
        level=pipeline.deploy[0].level,
        threads=report.environment.threads,
    )
    observer = Observer(model_path, graph, taps, deployment)
    recorder = GoldenRecorder(program, taps, policy_of(pipeline), observer)
    golden = whole_golden(
        pipeline,
        graph,
        (recorder.record(case, progress) for case in load_cases(pipeline, inputs, names)),
        reason=reason,
        replaces=read_golden(folder).digest if exists(folder) else "",
        weights=report.pipeline.weights.model_dump(),
        judged=_judged(report),
        environment=report.environment,
        deployment=deployment,
        inputs=inputs,
        taps=taps,
    )
    return write_golden(golden, folder)


def refuse_bad_run(
    pipeline: Pipeline, report: Report, names: Sequence[str], model_path: Path
) -> None:
    """Check that a run may be recorded.

    Raises:
        GoldenError: it did not pass, is of another pipeline, file or set of cases.
    """
    where = str(model_path.parent)
    problem, remedy = "", "run the pipeline again"
    file = next((a for a in report.artifacts if a.name == model_path.name), None)
    left_out = sorted(set(names) - {case.name for case in report.cases})
    if report.exit_code != 0:
        problem = f"the run did not pass, so nothing is recorded: {report.headline}"
        remedy = "a golden is what PyTorch and the file agree on; find out why they do not"
    elif not any((link.expected, link.actual) == (EAGER, CAPTURED) for link in report.links):
        problem = "the run did not compare eager PyTorch with the captured program"
    elif report.pipeline.digest != pipeline.digest:
        problem = "the run is of another state of the pipeline"
    elif file is None or not model_path.is_file() or _is_another(file, model_path):
        problem = f"{model_path.name} is not the file that the run judged"
    elif left_out:
        problem = f"the run did not judge the case(s) {', '.join(left_out)}"
        remedy = "run the pipeline with --all-cases"
    if problem:
        raise GoldenError(problem, where=where, remedy=remedy)


def _is_another(file: ArtifactRecord, path: Path) -> bool:
    return file.sha256 != sha256_of(path) or bool(changed_file(file, path.with_name(REPORT)))


def _judged(report: Report) -> dict[str, object]:
    shipped = next(a for a in report.artifacts if a.name == "model.onnx")
    return {
        "verdict": report.verdict,
        "headline": report.headline,
        "onnx_sha256": shipped.sha256,
        "policy": {
            "factor": report.policy.factor,
            "precision": report.policy.precision,
            "overrides": report.policy.overrides,
        },
        "links": [
            {
                "expected": link.expected,
                "actual": link.actual,
                "verdict": link.verdict,
                "compared": link.compared,
                "fused": link.fused,
                "missing": link.missing,
            }
            for link in report.links
        ],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseJudgement:
    """PyTorch's values on a case as a golden, and what the file gives against them.

    Attributes:
        outputs: what the file gives, by name.
        margin: least float64 margin of a choice among classes over its rounding noise; None
            where the program makes none.
        commonest: share of such choices that took the commonest class.
    """

    golden: GoldenCase
    outcome: CaseOutcome
    outputs: Arrays
    margin: float | None
    commonest: float | None


class GoldenRecorder:
    """Turns cases into goldens of cases."""

    def __init__(
        self, program: Program, taps: tuple[PlannedTap, ...], policy: Policy, observer: Observer
    ):
        self._program = program
        self._taps = taps
        self._policy = policy
        self._observer = observer

    def record(self, case: Case, progress: Callable[[str], None]) -> GoldenCase:
        """Walk PyTorch on one case, then let the file pass or not.

        Raises:
            GoldenError: the file would not pass against what is about to be recorded.
        """
        progress(case.name)
        judged = self.judge(case)
        outcome = judged.outcome
        if outcome.state not in GOOD:
            first = f"; first layer '{outcome.first.module}'" if outcome.first else ""
            why = outcome.first.reason if outcome.first else ""
            raise GoldenError(
                f"the exported file would not pass against it: {outcome.reason}{first} {why}",
                where=f"case '{case.name}'",
                remedy="report this with the run's report.json: the run itself had passed",
            )
        return judged.golden

    def judge(self, case: Case) -> CaseJudgement:
        """Walk PyTorch on one case in float32 and float64, and hold the file against it."""
        expected: list[Expected] = []
        measured: dict[str, Measurement] = {}
        kept: dict[str, np.ndarray] = {}
        labels = {tap.tap.name: tap for tap in self._taps}
        margins: list[float] = []
        choices: list[np.ndarray] = []
        for values in walk_taps(self._program, case.inputs):
            tap = labels[values.op.name]
            distances = self._measure(tap, values)
            measured[tap.tap.name] = distances
            expected.append(self._expected(tap, values, distances))
            if tap.output and values.reference.nbytes <= STORED_BYTES:
                kept[tap.onnx_name] = np.array(values.reference, order="C")
            if choice_of(values.op) is not None and values.margin is not None:
                margins.append(_least(values.margin()))
                choices.append(np.array(values.reference).reshape(-1))
        sizes = [math.prod(distances.sketch.shape) for distances in expected]
        observed = self._observer.run(case.inputs, sizes)
        expected = self._widen(case, expected, measured, observed)
        golden = GoldenCase(
            name=case.name,
            origin=case.origin,
            inputs=input_digests(case.inputs),
            expect_empty=tuple(sorted(case.expect_empty)),
            outputs=tuple(self._outputs(expected, kept, observed)),
            taps=tuple(self._witnessed(expected, observed)),
        )
        return CaseJudgement(
            golden=golden,
            outcome=judge_case(golden, self._taps, observed),
            outputs=observed.outputs,
            margin=min(margins, default=None),
            commonest=_commonest(choices),
        )

    def _measure(self, tap: PlannedTap, values: OpValues) -> Measurement:
        """PyTorch against its own float64 run."""
        return measure(
            tap.tap.name,
            truth=values.truth,
            reference=values.reference,
            actual=values.reference,
            role="output" if tap.output else "inner",
            natural_scale=natural_scale(tap.tap.op),
        )

    def _expected(self, tap: PlannedTap, values: OpValues, measured: Measurement) -> Expected:
        largest, rms = direct_limits(measured, self._policy, tap.tap.module)
        return Expected(
            sketch=sketch(tap.tap.name, values.reference),
            limit_max=largest,
            limit_rms=rms,
            witness=b"",
            close=_close(values.margin, self._policy.factor),
        )

    def _widen(
        self,
        case: Case,
        expected: list[Expected],
        measured: Mapping[str, Measurement],
        observed: Observed,
    ) -> list[Expected]:
        """Derive the limits that the file comes near to again, from several draws of float32.

        PyTorch's one draw may happen to be good at an element that amplifies rounding; the draws
        come from the program alone and know nothing of the file.
        """
        near = {
            tap.tap.name
            for tap, before in zip(self._taps, expected, strict=True)
            if before.sketch.floating
            and tap.onnx_name in observed.taps
            and judge_tap(before, observed.taps[tap.onnx_name]).strain > NEAR
        }
        if not near:
            return expected
        opinion = SecondOpinion(self._program, case.inputs, self._policy, near)
        return [
            self._limited(tap, before, opinion.measured(tap.tap.name, measured[tap.tap.name]))
            if tap.tap.name in near
            else before
            for tap, before in zip(self._taps, expected, strict=True)
        ]

    def _limited(self, tap: PlannedTap, expected: Expected, measured: Measurement) -> Expected:
        largest, rms = direct_limits(measured, self._policy, tap.tap.module)
        return replace(expected, limit_max=largest, limit_rms=rms)

    def _outputs(
        self,
        expected: Iterable[Expected],
        kept: Mapping[str, np.ndarray],
        observed: Observed,
    ) -> Iterable[GoldenOutput]:
        for tap, recorded in zip(self._taps, expected, strict=True):
            if not tap.output:
                continue
            values = observed.outputs.get(tap.onnx_name)
            yield GoldenOutput(
                name=tap.onnx_name,
                dtype=tap.dtype,
                shape=recorded.sketch.shape,
                values=kept.get(tap.onnx_name),
                limit_max=recorded.limit_max,
                limit_rms=recorded.limit_rms,
                witness=b"" if values is None else sketch(tap.onnx_name, values).bits,
            )

    def _witnessed(self, expected: Iterable[Expected], observed: Observed) -> Iterable[Expected]:
        for tap, recorded in zip(self._taps, expected, strict=True):
            sketch_seen = observed.taps.get(tap.onnx_name)
            yield recorded if sketch_seen is None else replace(recorded, witness=sketch_seen.bits)


def _close(margin: Callable[[], Margin] | None, factor: float) -> int:
    """How many decisions a correct float32 program might take the other way."""
    if margin is None:
        return 0
    margin_now = margin()
    return int((margin_now.distance <= factor * margin_now.noise).sum())


def _least(margin: Margin) -> float:
    distance = margin.distance[np.isfinite(margin.distance)]
    noise = max(margin.noise, float(np.finfo(np.float64).tiny))
    return float(distance.min()) / noise if distance.size else math.inf


def _commonest(choices: Sequence[np.ndarray]) -> float | None:
    largest = max(choices, key=len, default=np.zeros(0, np.int64))
    if not largest.size:
        return None
    _, counts = np.unique(largest, return_counts=True)
    return float(counts.max() / largest.size)
