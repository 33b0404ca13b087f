"""The chain of comparisons of one run; the first broken link names the guilty stage.

    eager -> captured -> exported -> simplified -> as deployed        (outputs, every case)
             captured ------------> simplified                        (every layer)

A file that was made elsewhere takes the place of exported and simplified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.core.errors import OnnxStoppedError
from exporter.core.stages import Stages, Station
from exporter.core.stopwatch import FILES, METRICS, RUNNING, spent, timed
from exporter.core.tensors import Arrays, Case
from exporter.execution.deployment import CPU, Deployment
from exporter.execution.memory import trim
from exporter.execution.onnx_runs import FileRun
from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import open_graph
from exporter.graph.taps import COMPARED, count_fates
from exporter.judge.ambiguity import doubtful_cases, settle
from exporter.judge.capture_fault import capture_fault, truth_notes
from exporter.judge.case_run import CaseRun, run_cases, tokens_of
from exporter.judge.chain_result import ChainResult, OpenFile
from exporter.judge.devices import device_records, policy_on
from exporter.judge.guilty_stage import KERNEL, asks_for_stage, culprit_records, module_of, to_blame
from exporter.judge.layer_results import LayerLink
from exporter.judge.layers import judge_subject
from exporter.judge.length_proofs import LengthProof, LengthProofs
from exporter.judge.links import CAPTURED, EAGER, Link, deployed, layers_to, output_links
from exporter.judge.lowered import LoweredFiles
from exporter.judge.outputs import OutputResult, judge_outputs, output_places, second_opinion
from exporter.judge.own_state import OwnState, judge_own_state
from exporter.judge.randomness import with_randomness
from exporter.judge.report_records import layer_link, link_record, output_record, walk_notes
from exporter.judge.subject import Subject
from exporter.judge.sweep import Swept, sweep
from exporter.parity.rollup import Rollup, rollup
from exporter.parity.status import Status, worst
from exporter.parity.tolerance import Policy
from exporter.report.comparison import OWN_STATE, CulpritRecord, DeploymentRecord, LinkRecord

__all__ = ["CAPTURED", "EAGER", "Chain", "Subject"]


class Chain:
    """Judges a subject.

    Args:
        policy: the limits. deployments: sessions as users would open them; the first one also
            runs the layers. budget: bytes that taps may hold. keep_open: the last file's
            session stays until ``open_file`` hands it over, beside the weights of the layers.
    """

    def __init__(
        self,
        subject: Subject,
        policy: Policy,
        deployments: tuple[Deployment, ...],
        budget: int,
        stages: Stages,
        keep_open: bool = False,
    ):
        self._keep_open = keep_open
        self._session: FileRun | None = None
        self._subject = subject
        self._policy = policy
        self._deployments = deployments
        self._budget = budget
        self._stages = stages
        self._stopped: dict[str, str] = {}
        self._graphs: dict[str, GraphIndex] = {}
        self._own: list[OwnState] = []
        self._unrun: frozenset[str] = frozenset()
        self._lowered = LoweredFiles(subject, policy)
        self._places = output_places(subject.program)

    @property
    def _last(self) -> Station:
        return self._subject.stations[-1]

    def judge(
        self,
        cases: Sequence[Case],
        sized: Sequence[Case],
        min_coverage: float | None,
        proofs: LengthProofs | None = None,
    ) -> ChainResult:
        """Run and judge all links on ``cases``; outputs alone at the lengths of ``sized``.

        A case in several calls is one case for each call. Layers are walked in the first two.
        What is proved of the lengths already is not run again; see ``length_proofs``.
        """
        proof = proofs.find(sized) if proofs is not None else None
        runs = self._run_pytorch([*cases, *sized], proof)
        cases = [*cases, *(run.case for run in runs if run.second_call)]
        cases = [case for case in cases if case.name not in self._unrun]
        self._run_files(runs)
        results = [result for run in runs for result in self._judge_outputs(run)]
        swept = self._sweep()
        results += swept.results
        walk = self._subject.tapped and bool(cases)
        walked = self._judge_layers(cases, min_coverage) if walk else None
        results = self._settled(results, runs, walked[0].decisions if walked else {})
        if walked is None or not walked[0].culprits:
            able = [run.case for run in [*runs, *swept.runs] if not run.stopped]
            results = second_opinion(self._subject.program, results, able, self._policy)
        if proofs is not None and proof is None and not self._stopped:
            clean = [run.case for run in runs if not run.written]
            if {case.name for case in sized} <= {case.name for case in clean}:
                values = {run.case.name: (run.stations[CAPTURED], run.behind.truth) for run in runs}
                proofs.keep(sized, self._front(), results, values)
        rollups = self._link_rollups(results, [*runs, *swept.differing(results)])
        if proof is not None:
            front = self._front()
            rollups = [(proof.on(r) if r.name in front else r, link) for r, link in rollups]
        links = [link_record(r, link) for r, link in rollups]
        statuses = [r.status for r, _ in rollups]
        culprits: list[CulpritRecord] = []
        findings: list[CulpritRecord] = []
        notes = [] if proof is None else [proof.note(self._front())]
        notes += [*truth_notes(runs), *swept.notes()]
        if walked is not None:
            layers, record, status = walked
            links.insert(len(links) - len(self._deployments), record)
            statuses.append(status)
            failed = status is Status.FAIL or any(
                r.status is Status.FAIL for r, link in rollups if link.expected != EAGER
            )
            culprits = self._culprits(layers, cases, failed)
            if not failed:
                findings = culprit_records(layers.findings, link=record.name, stage=KERNEL)
            for deployment in self._deployments:
                if deployment.provider != CPU:
                    link, status, found = self._device_layers(deployment, cases, culprits)
                    links.append(link)
                    statuses.append(status)
                    culprits += found
            notes += walk_notes(layers)
        for deployment in self._deployments if self._own else ():
            link = deployed(CAPTURED, deployment, OWN_STATE)
            found, held = judge_own_state(
                self._own, link, self._subject.outputs, self._policy, self._places
            )
            results += found
            links.append(link_record(held, link))
            statuses.append(held.status)
        return ChainResult(
            links=links,
            outputs=[output_record(result) for result in results],
            culprits=culprits,
            findings=findings,
            statuses=statuses,
            status=worst(statuses),
            tokens=tokens_of(runs, self._deployments[0].label()),
            shipped={run.case.name: run.stations[self._deployments[0].label()] for run in runs},
            notes=notes,
            proof=proof,
            deployments=self._devices(runs, results),
        )

    def _device_layers(
        self, deployment: Deployment, cases: Sequence[Case], known: list[CulpritRecord]
    ) -> tuple[LinkRecord, Status, list[CulpritRecord]]:
        """Layers on a device; one that the CPU has wrong as well is not the device's."""
        layers, record, status = self._judge_layers(cases, None, deployment)
        names = {culprit.layer for culprit in known}
        found = [c for c in layers.culprits if module_of(c) not in names]
        link, stage = record.name, deployment.label()
        return record, status, culprit_records(found, link=link, stage=stage, on_device=True)

    def _judge_layers(
        self,
        cases: Sequence[Case],
        min_coverage: float | None,
        deployment: Deployment | None = None,
    ) -> tuple[LayerLink, LinkRecord, Status]:
        where = deployment.label() if deployment is not None else self._last.name
        with self._stages.stage(f"layers on {where}" if deployment else "layers") as stage:
            layers = self._layers(self._last, cases, deployment)
            fates = count_fates(tap.planned for tap in layers.taps)
            stage.result(f"{fates[COMPARED]} taps compared on {len(cases)} case(s)")
        record, status = layer_link(layers, layers_to(where), min_coverage)
        return layers, record, status

    def _run_pytorch(self, cases: Sequence[Case], proof: LengthProof | None) -> list[CaseRun]:
        with self._stages.stage("run PyTorch") as stage:
            runs, self._own = run_cases(self._subject, cases, proof, stage)
        self._unrun = frozenset(run.case.name for run in runs if run.stopped)
        return runs

    def _sweep(self) -> Swept:
        """The first link at sizes of our choice, where inputs of any size can be made."""
        sizes, link = self._subject.sizes, Link(expected=EAGER, actual=CAPTURED)
        if self._subject.module is None or sizes is None:
            return Swept()

        def judge(run: CaseRun) -> list[OutputResult]:
            self._unrun |= {run.case.name}  # no layers are walked there
            return self._judge_one(run, link, run.stations[EAGER], run.stations[CAPTURED])

        with self._stages.stage("other sizes") as stage:
            found = sweep(self._subject, sizes, judge)
            stage.result(f"{len(found.agreed)} agree, {len(found.runs)} do not")
        return found

    def _run_files(self, runs: list[CaseRun]) -> None:
        first = self._deployments[0]
        plain = first.on_cpu("disable")
        files = [(s.name, s.path, plain) for s in self._subject.stations]
        files += [(d.label(), self._last.path, d) for d in self._deployments]
        with self._stages.stage("run onnxruntime") as stage:
            for number, (station, path, deployment) in enumerate(files):
                stage.update(station, number, len(files))
                self._run_file(runs, station, path, deployment)
                trim()
            stage.result(", ".join(d.label() for d in self._deployments))

    def _run_file(
        self, runs: list[CaseRun], station: str, path: Path, deployment: Deployment
    ) -> None:
        """All cases on one file; its session, as large as its weights, ends with this call unless
        it is to be kept."""
        session = FileRun(path, deployment)
        shipped = station not in {held.name for held in self._subject.stations}
        if self._keep_open and shipped and deployment == self._deployments[0]:
            self._session = session
        for run in runs:
            if shipped or not run.proved:
                run.stations[station] = self._run_one(session, station, run.case)
        if shipped:
            for own in self._own:
                own.run_file(station, session.run)

    def _run_one(self, session: FileRun, station: str, case: Case) -> Arrays:
        """Outputs of one run; none of them, with onnxruntime's words kept, when it stops."""
        try:
            return session.run(case.inputs)
        except OnnxStoppedError as error:
            self._stopped.setdefault(station, f"onnxruntime stopped on '{case.name}': {error}")
            return {}

    def _output_links(self) -> list[Link]:
        eager = [EAGER] if self._subject.module is not None else []
        names = [*eager, CAPTURED, *(s.name for s in self._subject.stations)]
        return output_links(names, self._deployments)

    def _front(self) -> tuple[str, ...]:
        """Names of the links in front of the shipped file."""
        return tuple(link.name for link in self._output_links()[: -len(self._deployments)])

    def _judge_outputs(self, run: CaseRun) -> list[OutputResult]:
        results: list[OutputResult] = []
        front = self._front() if run.proved else ()
        for link in self._output_links():
            if link.name in front:
                continue
            # Of a proved run the last file's integers are known to be the captured ones.
            left = run.stations[CAPTURED if run.proved else link.expected]
            found = self._judge_one(run, link, left, run.stations[link.actual])
            wrong = any(result.verdict.status is Status.FAIL for result in found)
            if link.expected == EAGER and wrong and not run.stopped:
                # The first comparison is the guilty one; the files are held against the program.
                run.judge_behind_by(self._subject.program)
            results += found
        return results

    def _judge_one(
        self, run: CaseRun, link: Link, expected: Arrays, actual: Arrays
    ) -> list[OutputResult]:
        deployment = next((d for d in self._deployments if d.label() == link.actual), None)
        by = run.capture if link.expected == EAGER else run.behind
        station = next((s for s in self._subject.stations if s.name == link.actual), None)
        station = self._last if deployment is not None else station
        found = judge_outputs(
            link.name,
            run.case,
            self._subject.outputs,
            truth=by.truth,
            reference=by.reference,
            expected=expected,
            actual=actual,
            policy=policy_on(self._policy, deployment),
            places=self._places,
            held=self._lowered.outputs(station, self._graph, run.case),
        )
        return with_randomness(found, run, link.actual)

    def _devices(self, runs: list[CaseRun], results: list[OutputResult]) -> list[DeploymentRecord]:
        """Deployments on a device, once their outputs are judged."""
        if all(d.provider == CPU for d in self._deployments):
            return []

        def judge(run: CaseRun, way: Deployment, outputs: Arrays) -> list[OutputResult]:
            expected = run.stations[CAPTURED if run.proved else self._last.name]
            return self._judge_one(run, deployed(self._last.name, way), expected, outputs)

        links = {d.label(): deployed(self._last.name, d).name for d in self._deployments}
        here = {label: [r for r in results if r.link == name] for label, name in links.items()}
        with self._stages.stage("devices") as stage:
            return device_records(
                self._last.path,
                self._deployments,
                runs,
                here,
                judge,
                lambda label: stage.update(label, 0, len(self._deployments)),
            )

    def _link_rollups(
        self, results: list[OutputResult], runs: list[CaseRun]
    ) -> list[tuple[Rollup, Link]]:
        rollups = []
        for link in self._output_links():
            name = link.name
            held = rollup(name, [r.verdict for r in results if r.link == name])
            reason = None
            if link.expected == EAGER:
                reason = capture_fault(results, runs, self._subject.inputs)
            elif link.actual in self._stopped:
                reason = self._stopped[link.actual]
            if reason is not None:
                held = Rollup(name=name, status=Status.FAIL, reason=reason)
            rollups.append((held, link))
        return rollups

    def _layers(
        self, station: Station, cases: Sequence[Case], deployment: Deployment | None = None
    ) -> LayerLink:
        found = judge_subject(
            self._subject,
            self._graph(station),
            cases,
            policy=policy_on(self._policy, deployment),
            deployment=deployment or self._deployments[0].on_cpu(),
            budget=self._budget,
            progress=self._stages.phase,
        )
        clock = found.clock.seconds
        spent(RUNNING, clock.get("torch float32", 0.0) + clock.get("torch float64", 0.0))
        spent(METRICS, clock.get("metrics", 0.0))
        return found

    def open_file(self) -> OpenFile:
        """Hand over what is open of the last file; the chain has it no longer."""
        held = OpenFile(graph=self._graphs.pop(self._last.name, None), session=self._session)
        self._session = None
        return held

    def _graph(self, station: Station) -> GraphIndex:
        if station.name not in self._graphs:
            # One graph at a time: at full size each holds a gigabyte of weights.
            self._graphs.clear()
            with timed(FILES):
                self._graphs[station.name] = open_graph(station.path)
        return self._graphs[station.name]

    def _culprits(
        self, layers: LayerLink, cases: Sequence[Case], failed: bool
    ) -> list[CulpritRecord]:
        """Culprits of the last file; a layer that an earlier file has wrong is that stage's."""
        held = to_blame(layers, failed=failed)
        earlier = {}
        for station in self._subject.stations[:-1] if asks_for_stage(held) else ():
            with self._stages.stage(f"layers of {station.name}"):
                earlier[station.stage] = self._layers(station, cases)
        link = layers_to(self._last.name)
        return culprit_records(held, link=link.name, stage=self._last.stage, earlier=earlier)

    def _settled(
        self, results: list[OutputResult], runs: list[CaseRun], walked: Mapping[str, str | None]
    ) -> list[OutputResult]:
        """Outputs behind an ambiguous decision, told from those that are wrong."""
        if not self._subject.tapped:
            return results
        known = dict(walked)
        doubtful = doubtful_cases(self._subject.program, results, {*known, *self._unrun})
        if doubtful:
            with self._stages.stage("ambiguity") as stage:
                cases = [run.case for run in runs if run.case.name in doubtful]
                known |= self._layers(self._last, cases).decisions
                unsure = sum(known[name] is not None for name in doubtful)
                stage.result(f"{unsure} of {len(doubtful)} case(s) rest on a decision in doubt")
        return settle(results, known.get)
