"""The chain of comparisons of one run; the first broken link names the guilty stage.

    eager -> captured -> exported -> simplified -> as deployed        (outputs, every case)
             captured ------------> simplified                        (every layer)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from exporter.build import Built, Stages
from exporter.execution.evaluate import run_with_truth
from exporter.execution.onnxruntime import Deployment, FileRun
from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.taps import COMPARED, count_fates
from exporter.layers import LayerLink, judge_layers
from exporter.outputs import OutputResult, judge_outputs, run_eager
from exporter.parity.rollup import Coverage, Rollup, link_verdict, rollup
from exporter.parity.status import Status, worst
from exporter.parity.tolerance import Policy
from exporter.record import culprit_record, layer_records, link_record, output_record
from exporter.report.schema import CulpritRecord, LinkRecord, OutputRecord
from exporter.tensors import Arrays, Case

EAGER, CAPTURED, EXPORTED, SIMPLIFIED = "eager", "captured", "exported", "simplified"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainResult:
    """Records and statuses of all links, in the order of the chain."""

    links: list[LinkRecord]
    outputs: list[OutputRecord]
    culprits: list[CulpritRecord]
    statuses: list[Status]
    status: Status
    headline: str
    tokens: dict[str, list[list[int]]]
    notes: list[str]
    not_checked: list[str]


@dataclass(slots=True)
class _Runs:
    """Outputs of one case at every station of the chain."""

    case: Case
    truth: Arrays = field(default_factory=dict)
    stations: dict[str, Arrays] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)


class Chain:
    """Judges what ``build`` made.

    Args:
        policy: the limits. deployments: sessions as users would open them; the first one also
            runs the layers. budget: bytes that taps may hold.
    """

    def __init__(
        self,
        built: Built,
        policy: Policy,
        deployments: tuple[Deployment, ...],
        budget: int,
        stages: Stages,
    ):
        self._built = built
        self._policy = policy
        self._deployments = deployments
        self._budget = budget
        self._stages = stages
        self._tainted: dict[str, str | None] = {}
        self._index: dict[str, GraphIndex] = {}

    def judge(
        self, cases: Sequence[Case], sized: Sequence[Case], min_coverage: float | None
    ) -> ChainResult:
        """Run and judge all links on ``cases``; outputs alone at the lengths of ``sized``."""
        runs = self._run_pytorch([*cases, *sized])
        self._run_files(runs)
        results = [result for run in runs for result in self._judge_outputs(run)]
        rollups = self._link_rollups(results, runs)
        with self._stages.stage("layers") as stage:
            layers = self._layers(self._built.shipped_model, cases)
            fates = count_fates(tap.planned for tap in layers.taps)
            stage.result(f"{fates[COMPARED]} taps compared on {len(cases)} case(s)")
        layer_rollup = self._layer_rollup(layers, fates, min_coverage)
        culprits = self._culprits(layers, cases)
        links = [link_record(r, *ends) for r, ends in rollups]
        links.insert(
            3 if self._built.simplified else 2,
            LinkRecord(
                name=layer_rollup.name,
                expected=CAPTURED,
                actual=SIMPLIFIED if self._built.simplified else EXPORTED,
                verdict=layer_rollup.status.value,
                reason=layer_rollup.reason,
                compared=fates["compared"],
                fused=fates["fused"],
                missing=fates["missing"],
                coverage=(fates["compared"] + fates["fused"]) / max(len(layers.taps), 1),
                layers=layer_records(layers),
            ),
        )
        statuses = [*(r.status for r, _ in rollups), layer_rollup.status]
        return ChainResult(
            links=links,
            outputs=[output_record(result) for result in results],
            culprits=culprits,
            statuses=statuses,
            status=worst(statuses),
            headline=headline(links, culprits),
            tokens=self._tokens(runs),
            notes=self._notes(layers),
            not_checked=self._not_checked(culprits),
        )

    def _run_pytorch(self, cases: Sequence[Case]) -> list[_Runs]:
        wrapped, program = self._built.wrapped, self._built.program
        runs = []
        with self._stages.stage("run PyTorch") as stage:
            for number, case in enumerate(cases):
                stage.update(case.name, number, len(cases))
                eager, written = run_eager(wrapped.module, wrapped.inputs, wrapped.outputs, case)
                captured, truth = run_with_truth(program, case.inputs)
                runs.append(
                    _Runs(
                        case=_declare_sweep(case, eager),
                        truth=truth,
                        stations={EAGER: eager, CAPTURED: captured},
                        written=written,
                    )
                )
            stage.result(f"{len(cases)} cases and lengths, float32 and float64")
        return runs

    def _run_files(self, runs: list[_Runs]) -> None:
        plain = Deployment(
            provider=self._deployments[0].provider,
            level="disable",
            threads=self._deployments[0].threads,
        )
        files = [(EXPORTED, self._built.exported.path, plain)]
        if self._built.simplified:
            files.append((SIMPLIFIED, self._built.shipped.path, plain))
        files += [(d.label(), self._built.shipped.path, d) for d in self._deployments]
        with self._stages.stage("run onnxruntime") as stage:
            for number, (station, path, deployment) in enumerate(files):
                stage.update(station, number, len(files))
                self._run_file(station, path, deployment, runs)
            stage.result(", ".join(d.label() for d in self._deployments))

    def _run_file(
        self, station: str, path: Path, deployment: Deployment, runs: list[_Runs]
    ) -> None:
        session = FileRun(path, deployment)
        for run in runs:
            run.stations[station] = session.run(run.case.inputs)

    def _pairs(self) -> list[tuple[str, str]]:
        stations = [EAGER, CAPTURED, EXPORTED]
        if self._built.simplified:
            stations.append(SIMPLIFIED)
        pairs = list(zip(stations, stations[1:], strict=False))
        return [*pairs, *((stations[-1], d.label()) for d in self._deployments)]

    def _judge_outputs(self, run: _Runs) -> list[OutputResult]:
        operators = self._operators()
        results = []
        for expected, actual in self._pairs():
            results += judge_outputs(
                f"{expected} -> {actual}",
                run.case,
                self._built.wrapped.outputs,
                truth=run.truth,
                reference=run.stations[EAGER],
                expected=run.stations[expected],
                actual=run.stations[actual],
                policy=self._policy,
                ambiguity=self._ambiguity,
                operators=operators,
            )
        return results

    def _operators(self) -> dict[str, str]:
        program = self._built.program
        ops = {op.name: op.target for op in program.ops}
        pairs = zip(program.outputs, program.output_names, strict=True)
        return {label: ops.get(name, "") for name, label in pairs}

    def _link_rollups(
        self, results: list[OutputResult], runs: list[_Runs]
    ) -> list[tuple[Rollup, tuple[str, str]]]:
        rollups = []
        for expected, actual in self._pairs():
            name = f"{expected} -> {actual}"
            held = rollup(name, [r.verdict for r in results if r.link == name])
            written = sorted({w for run in runs for w in run.written})
            if expected == EAGER and written:
                held = Rollup(
                    name=name,
                    status=Status.FAIL,
                    reason=f"PyTorch writes to its input(s) {', '.join(written)}",
                )
            rollups.append((held, (expected, actual)))
        return rollups

    def _layers(self, model: onnx.ModelProto, cases: Sequence[Case]) -> LayerLink:
        return judge_layers(
            self._built.program,
            index_graph(model, self._built.shipped.path.parent),
            cases,
            policy=self._policy,
            deployment=self._deployments[0],
            budget=self._budget,
            progress=self._stages.phase,
        )

    def _layer_rollup(
        self, layers: LayerLink, fates: dict[str, int], min_coverage: float | None
    ) -> Rollup:
        verdicts = [
            judged.verdict
            for tap in layers.taps
            for judged in (tap.local, tap.propagated)
            if judged is not None
        ]
        coverage = Coverage(
            expected=len(layers.taps),
            compared=fates["compared"],
            fused=fates["fused"],
            missing=fates["missing"],
            minimum=1.0 if min_coverage is None else min_coverage,
        )
        end = SIMPLIFIED if self._built.simplified else EXPORTED
        return link_verdict(f"layers: {CAPTURED} -> {end}", verdicts, coverage)

    def _culprits(self, layers: LayerLink, cases: Sequence[Case]) -> list[CulpritRecord]:
        """Culprits of the shipped file; those that the exported file shares are the exporter's."""
        if not layers.culprits:
            return []
        end = SIMPLIFIED if self._built.simplified else EXPORTED
        link = f"layers: {CAPTURED} -> {end}"
        earlier: set[str] = set()
        if self._built.simplified:
            with self._stages.stage("layers before simplify"):
                found = self._layers(self._built.exported_model, cases)
            earlier = {c.tap.planned.tap.module for c in found.culprits}
        return [
            culprit_record(
                culprit,
                link=link,
                stage="export"
                if not self._built.simplified or culprit.tap.planned.tap.module in earlier
                else "simplify",
            )
            for culprit in layers.culprits
        ]

    def _ambiguity(self, case: Case) -> str | None:
        """Why integers of this case may differ: a decision whose margin is below the noise."""
        if case.name not in self._tainted:
            layers = self._layers(self._built.shipped_model, [case])
            unsure = [
                tap
                for tap in layers.taps
                if tap.propagated is not None
                and tap.propagated.verdict.status is Status.AMBIGUOUS
            ]
            failed = any(tap.status is Status.FAIL for tap in layers.taps)
            self._tainted[case.name] = (
                unsure[0].propagated.verdict.reason
                if unsure and unsure[0].propagated and not failed
                else None
            )
        return self._tainted[case.name]

    def _tokens(self, runs: list[_Runs]) -> dict[str, list[list[int]]]:
        found = {}
        station = self._deployments[0].label()
        for run in runs:
            outputs = run.stations[station]
            if "token_ids" in outputs and "token_lengths" in outputs:
                pairs = zip(outputs["token_ids"], outputs["token_lengths"], strict=True)
                found[run.case.name] = [ids[: int(n)].tolist() for ids, n in pairs]
        return found

    def _notes(self, layers: LayerLink) -> list[str]:
        notes = []
        simplified = self._built.simplified
        if simplified:
            change = f"{simplified.nodes_before} to {simplified.nodes_after} nodes"
            size = f"{simplified.bytes_before:,} to {simplified.bytes_after:,} bytes of weights"
            grew = "; it made the graph larger" if simplified.grew else ""
            notes.append(f"onnxsim: {change}, {size}{grew}")
        shares = {k: round(v, 2) for k, v in layers.clock.seconds.items()}
        notes.append(f"seconds in the layer walk: {shares}")
        return notes

    def _not_checked(self, culprits: list[CulpritRecord]) -> list[str]:
        missing = []
        if self._built.simplified and not culprits:
            missing.append(
                "layers of exported.onnx: outputs only (they are walked when a layer of model.onnx"
                " fails)"
            )
        if all(d.provider == "cpu" for d in self._deployments):
            missing.append("other execution providers than the CPU: not present or not asked for")
        if self._built.wrapped.weights.seeded:
            missing.append("a trained checkpoint: the weights are seeded, the words mean nothing")
        return missing


def _declare_sweep(case: Case, eager: Arrays) -> Case:
    """At a length of the sweep there may be no speech: what eager leaves empty is declared so.

    Both sides must then be empty, which is counted apart from a pass.
    """
    if "@" not in case.name:
        return case
    empty = frozenset(name for name, value in eager.items() if np.size(value) == 0)
    return Case(name=case.name, inputs=case.inputs, origin=case.origin, expect_empty=empty)


def headline(links: list[LinkRecord], culprits: list[CulpritRecord]) -> str:
    """One sentence: what is wrong and where, or what was shown."""
    if culprits:
        first = culprits[0]
        more = f" (and {len(culprits) - 1} more)" if len(culprits) > 1 else ""
        at = f" at {first.source}" if first.source else ""
        return f"{first.stage}: layer '{first.layer}', {first.op}{at}: {first.reason}{more}"
    for link in links:
        if link.verdict == Status.FAIL.value:
            return f"{link.name}: {link.reason}"
    for link in links:
        if link.verdict not in (Status.PASS.value, Status.EMPTY_AS_DECLARED.value):
            return f"{link.name}: {link.verdict}: {link.reason}"
    compared = next((link.compared for link in links if link.compared is not None), 0)
    return f"all {len(links)} links agree; {compared} layers' values compared one by one"


