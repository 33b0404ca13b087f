"""Every call of every graph in a drive, judged on the inputs that PyTorch's own drive gave it.

A difference in the end can come from any call of any graph, and errors travel: through a cache,
through tokens. Here each call is fed PyTorch's values, so that the graph that is wrong is wrong by
itself, at the call at which it is. The worst call of a graph is then judged as a case of any
pipeline is, layer by layer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from exporter.build.artifacts import Artifacts
from exporter.core.errors import ExportVerifyError, OnnxStoppedError, first_line
from exporter.core.stages import Stages, Station
from exporter.core.tensors import Arrays, Case, TensorSpec
from exporter.drivers.graph import DriverStoppedError, Graph
from exporter.execution.onnx_runs import FileRun
from exporter.graph.onnx_file import open_artifact
from exporter.interpret.eager import run_eager
from exporter.interpret.run_program import run_with_truth
from exporter.judge.chain import Chain, Subject
from exporter.judge.chain_result import ChainResult
from exporter.judge.known_taps import known_taps
from exporter.judge.links import CAPTURED, EAGER, Link
from exporter.parity.compare import measure
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status, Who, is_differing, severity
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import judge
from exporter.parity.verdict_record import Verdict
from exporter.report.comparison import VerdictRecord
from exporter.report.system import CallsRecord
from exporter.systems.opened import OpenedGraph
from exporter.systems.sides import as_declared, side

Sessions = Mapping[str, Mapping[str, FileRun]]
"""Label of a deployment -> graph -> its open file."""


@dataclass(slots=True)
class _Worst:
    """The worst call so far of one output over one link."""

    calls: int = 0
    at: int = 0
    verdict: Verdict | None = None

    def take(self, verdict: Verdict) -> bool:
        """Count a call; True when it is the worst so far."""
        self.calls += 1
        rank = _rank(verdict)
        if self.verdict is not None and rank <= _rank(self.verdict):
            return False
        self.at, self.verdict = self.calls - 1, verdict
        return True


def _rank(verdict: Verdict) -> tuple[int, float]:
    return severity(verdict.status), verdict.strain or 0.0


@dataclass(slots=True)
class CallJudge:
    """Runs PyTorch's side of a drive, and judges each call as it comes; keeps no values.

    Args:
        graphs: opened. sessions: of every deployment.
        case: name of the case. empty: outputs that may be empty on it.
    """

    graphs: Mapping[str, OpenedGraph]
    sessions: Sessions
    case: str
    empty: Collection[str] = ()
    _worst: dict[tuple[str, str, str], _Worst] = field(default_factory=dict)
    _inputs: dict[str, tuple[tuple[int, float], Arrays]] = field(default_factory=dict)
    _layers: dict[str, ChainResult] = field(default_factory=dict)

    def side(self) -> dict[str, Graph]:
        """The float32 side, watched."""
        return side(self.graphs, {name: self._caller(graph) for name, graph in self.graphs.items()})

    def count(self, graph: str) -> int:
        """Calls of a graph."""
        return max((w.calls for (name, _, _), w in self._worst.items() if name == graph), default=0)

    def _caller(self, graph: OpenedGraph):  # noqa: ANN202 - a driver's ``Call``
        return lambda arrays: self._called(graph, as_declared(graph, arrays))

    def _called(self, graph: OpenedGraph, arrays: Arrays) -> Arrays:
        eager = run_eager(graph.module, graph.inputs, graph.outputs, arrays)
        try:
            reference, wide = run_with_truth(graph.program, arrays)
        except ExportVerifyError:
            raise
        except Exception as error:  # whatever torch raises at a size that the capture cannot take
            raise DriverStoppedError(
                f"the captured program stops where the module does not: {first_line(error, 300)}",
                graph=graph.name,
            ) from error
        truth = wide if eager.truth is None else eager.truth
        self._judge(
            graph, Link(expected=EAGER, actual=CAPTURED), arrays, truth, eager.outputs, reference
        )
        for label, sessions in self.sessions.items():
            link = Link(expected=CAPTURED, actual=label)
            try:
                actual: Arrays = sessions[graph.name].run(arrays)
            except OnnxStoppedError as error:
                self._stopped(graph, link, arrays, str(error))
                continue
            self._judge(graph, link, arrays, truth, reference, actual)
        return reference

    def _judge(
        self,
        graph: OpenedGraph,
        link: Link,
        arrays: Arrays,
        truth: Arrays,
        reference: Arrays,
        actual: Arrays,
    ) -> None:
        for spec in graph.outputs:
            verdict = self._verdict(graph, spec, truth, reference, actual)
            self._take(graph, link, spec, arrays, verdict)

    def _verdict(
        self, graph: OpenedGraph, spec: TensorSpec, truth: Arrays, reference: Arrays, actual: Arrays
    ) -> Verdict:
        name = spec.name
        measured = measure(
            name,
            truth=truth.get(name),
            reference=reference.get(name),
            actual=actual.get(name),
            role="output",
        )
        declared = name in self.empty or f"{graph.name}.{name}" in self.empty
        return _judged(measured, graph.policy, declared)

    def _stopped(self, graph: OpenedGraph, link: Link, arrays: Arrays, why: str) -> None:
        for spec in graph.outputs:
            verdict = Verdict(
                name=spec.name,
                status=Status.FAIL,
                who=Who.ONNX,
                reason=f"onnxruntime stops where PyTorch does not: {why}",
            )
            self._take(graph, link, spec, arrays, verdict)

    def _take(
        self, graph: OpenedGraph, link: Link, spec: TensorSpec, arrays: Arrays, verdict: Verdict
    ) -> None:
        worst = self._worst.setdefault((graph.name, spec.name, link.name), _Worst())
        if not worst.take(verdict) or not is_differing(verdict.status):
            return
        kept = self._inputs.get(graph.name)
        if kept is None or _rank(verdict) > kept[0]:
            copied = {name: np.array(value) for name, value in arrays.items()}
            self._inputs[graph.name] = (_rank(verdict), copied)

    def settle(self, folders: Mapping[str, Artifacts], budget: int, progress: Stages) -> None:
        """Judge the worst call of each graph that is not good, layer by layer.

        What a distance alone says of one of many calls is a first opinion: decisions with their
        margins, and what float32 costs by several draws, are looked at as for any case.
        """
        for name, (_, arrays) in self._inputs.items():
            graph = self.graphs[name]
            self._layers[name] = _judged_as_a_case(graph, arrays, folders[name], budget, progress)

    def records(self) -> list[CallsRecord]:
        """One row per graph, output and link."""
        return [self._record(key, worst) for key, worst in self._worst.items()]

    def _record(self, key: tuple[str, str, str], worst: _Worst) -> CallsRecord:
        graph, output, link = key
        verdict = worst.verdict
        if verdict is None:
            raise AssertionError("a row without a call")
        layers = self._layers.get(graph)
        record, layer = VerdictRecord.of(verdict), ""
        if layers is not None and is_differing(verdict.status):
            layer = next((f"{c.layer} [{c.op}]" for c in layers.culprits), "")
            if layers.status is not Status.FAIL and verdict.strain is not None:
                why = f"{verdict.reason}; judged as a case of its own: {layers.status.value}"
                record = record.model_copy(update={"verdict": layers.status.value, "reason": why})
            elif layers.status is Status.AMBIGUOUS:
                why = f"{verdict.reason}; a decision that is within rounding in float64"
                record = record.model_copy(update={"verdict": layers.status.value, "reason": why})
        return CallsRecord(
            case=self.case,
            graph=graph,
            output=output,
            link=link,
            calls=worst.calls,
            verdict=record,
            worst_call=worst.at,
            layer=layer,
        )


def _judged_as_a_case(
    graph: OpenedGraph, arrays: Arrays, own: Artifacts, budget: int, progress: Stages
) -> ChainResult:
    artifact, given = open_artifact(graph.onnx)
    taps = known_taps(artifact.metadata, given, own)
    subject = Subject(
        module=graph.module,
        program=graph.program,
        inputs=graph.inputs,
        outputs=graph.outputs,
        stations=(Station(name="given", path=graph.onnx, stage="given file"),),
        expected_taps=taps.expected,
        known_taps=taps.known,
        names=taps.names,
        joins=taps.joins,
        tapped=taps.tapped,
        states=graph.states,
    )
    chain = Chain(subject, graph.policy, graph.deployments, budget, progress)
    return chain.judge((Case(name="call", inputs=arrays, origin="a call of the system"),), (), None)


def judged_arrays(
    truth: Arrays,
    reference: Arrays,
    actual: Arrays,
    graphs: Mapping[str, OpenedGraph],
    empty: Collection[str],
) -> dict[str, Verdict]:
    """Verdicts on what comes out of a whole drive; every side ran on its own values.

    Args:
        truth, reference, actual: by ``graph.output``. graphs: each output is judged as its own
            graph says.
    """
    verdicts = {}
    for name, value in reference.items():
        measured = measure(
            name, truth=truth.get(name), reference=value, actual=actual.get(name), role="output"
        )
        graph, _, port = name.partition(".")
        declared = bool({name, port} & set(empty))
        verdicts[name] = _judged(measured, graphs[graph].policy, declared)
    return verdicts


def _judged(measured: Measurement, policy: Policy, declared: bool) -> Verdict:
    """The verdict on one output; what is empty on both sides, undeclared, was not compared."""
    verdict = judge(measured, policy, empty_declared=declared and measured.elements == 0)
    alike = measured.problem is None and measured.shape_expected == measured.shape_actual
    same = alike and measured.dtype_expected == measured.dtype_actual
    if declared or measured.elements or not same:
        return verdict
    why = f"empty on both sides, shape {measured.shape_expected}, and no case declares it"
    return replace(verdict, status=Status.NOT_RUN, reason=f"{why}: nothing was compared")
