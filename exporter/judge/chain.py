"""The chain of comparisons of one run; the first broken link names the guilty stage.

    eager -> captured -> exported -> simplified -> as deployed        (outputs, every case)
             captured ------------> simplified                        (every layer)

A file that was made elsewhere takes the place of exported and simplified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.core.stages import Stages, Station
from exporter.core.tensors import Arrays, Case
from exporter.execution.deployment import CPU, Deployment
from exporter.interpret.evaluate import ways_taken
from exporter.judge.ambiguity import doubtful_cases, settle
from exporter.judge.capture_fault import capture_fault, truth_notes
from exporter.judge.case_run import CaseRun, run_cases, tokens_of
from exporter.judge.chain_result import ChainResult, OpenFile
from exporter.judge.devices import device_records, policy_on
from exporter.judge.file_runs import FileRuns
from exporter.judge.guilty_stage import KERNEL, culprit_records
from exporter.judge.layer_walks import LayerWalks
from exporter.judge.length_proofs import LengthProof, LengthProofs
from exporter.judge.links import CAPTURED, EAGER, Link, deployed, output_links
from exporter.judge.lowered import LoweredFiles
from exporter.judge.outputs import OutputResult, judge_outputs, output_places, second_opinion
from exporter.judge.own_state import OwnState, judge_own_state
from exporter.judge.randomness import with_randomness
from exporter.judge.report_records import output_record, walk_notes
from exporter.judge.subject import Subject
from exporter.judge.sweep import Swept, sweep
from exporter.judge.ways import has_ways, ways_not_taken
from exporter.parity.rollup import Rollup, rollup
from exporter.parity.status import Status, is_good, worst
from exporter.parity.tolerance import Policy
from exporter.report.comparison import OWN_STATE, CulpritRecord, DeploymentRecord

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
        self._subject = subject
        self._policy = policy
        self._deployments = deployments
        self._stages = stages
        self._files = FileRuns(subject, deployments, stages, keep_open=keep_open)
        self._walks = LayerWalks(subject, policy, deployments[0], budget, stages)
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
        *,
        settled: bool = True,
    ) -> ChainResult:
        """Run and judge all links on ``cases``; outputs alone at the lengths of ``sized``.

        A case in several calls is one case for each call. Layers are walked in the first two.
        What is proved of the lengths already is not run again; see ``length_proofs``.
        Not ``settled``: layers of ``cases`` alone are walked, and outputs that differ elsewhere
        fail, where a walk might show a decision in doubt.
        """
        # What is not run again would not show which branches it takes.
        proofs = None if has_ways(self._subject.program) else proofs
        proof = proofs.find(sized) if proofs is not None else None
        with ways_taken() as taken:
            runs = self._run_pytorch([*cases, *sized], proof)
        cases = [*cases, *(run.case for run in runs if run.second_call)]
        cases = [case for case in cases if case.name not in self._unrun]
        with ways_taken() as more:
            swept = self._sweep()
        self._files.run([*runs, *swept.held], self._own)
        results = [result for run in runs for result in self._judge_outputs(run)]
        at_sizes = self._files_at(swept.held)
        results += [*swept.results, *at_sizes]
        wrong = {r.case for r in at_sizes if r.verdict.status is Status.FAIL}
        cases += [run.case for run in swept.held if run.case.name in wrong][:1]
        walk = self._subject.tapped and bool(cases)
        walked = self._walks.judge(cases, min_coverage) if walk else None
        every = [*runs, *swept.held]
        known = walked[0].decisions if walked else {}
        results = self._settled(results, every if settled else (), known)
        if walked is None or not walked[0].culprits:
            able = [run.case for run in [*every, *swept.runs] if not run.stopped]
            results = second_opinion(self._subject.program, results, able, self._policy)
        tried = swept.notes(results)
        results = swept.without_doubt(results)
        if proofs is not None and proof is None and not self._files.stopped:
            clean = [run.case for run in runs if not run.written]
            if {case.name for case in sized} <= {case.name for case in clean}:
                values = {run.case.name: (run.stations[CAPTURED], run.behind.truth) for run in runs}
                proofs.keep(sized, self._front(), results, values)
        rollups = self._link_rollups(results, [*runs, *swept.differing(results)])
        if proof is not None:
            front = self._front()
            rollups = [(proof.on(r) if r.name in front else r, link) for r, link in rollups]
        links = [link.record(r.status, r.reason) for r, link in rollups]
        statuses = [r.status for r, _ in rollups]
        culprits: list[CulpritRecord] = []
        findings: list[CulpritRecord] = []
        notes = [] if proof is None else [proof.note(self._front())]
        notes += [*truth_notes(runs, self._subject.inputs), *tried]
        if walked is not None:
            layers, record, status = walked
            links.insert(len(links) - len(self._deployments), record)
            statuses.append(status)
            failed = status is Status.FAIL or any(
                r.status is Status.FAIL for r, link in rollups if link.expected != EAGER
            )
            culprits = self._walks.culprits(layers, cases, failed)
            if not failed:
                findings = culprit_records(layers.findings, link=record.name, stage=KERNEL)
            for deployment in self._deployments:
                if deployment.provider != CPU:
                    link, status, on_it = self._walks.on_device(deployment, cases, culprits)
                    links.append(link)
                    statuses.append(status)
                    culprits += on_it
            notes += walk_notes(layers)
        for deployment in self._deployments if self._own else ():
            link = deployed(CAPTURED, deployment, OWN_STATE)
            results_here, rolled = judge_own_state(
                self._own, link, self._subject.outputs, self._policy, self._places
            )
            results += results_here
            links.append(link.record(rolled.status, rolled.reason))
            statuses.append(rolled.status)
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
            checks=ways_not_taken(self._subject.program, taken | more),
        )

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
            return self._judge_one(run, link, run.stations[EAGER], run.stations[CAPTURED])

        with self._stages.stage("other sizes") as stage:
            swept = sweep(self._subject, sizes, judge)
            stage.result(f"{len(swept.held)} agree, {len(swept.runs)} do not")
        # No layers are walked where the program is not the module.
        self._unrun |= {run.case.name for run in swept.runs}
        return swept

    def _files_at(self, runs: Sequence[CaseRun]) -> list[OutputResult]:
        """What is not good of the files at sizes of our choice; the rest is a note."""
        front = Link(expected=EAGER, actual=CAPTURED).name
        results = (result for run in runs for result in self._judge_outputs(run))
        return [r for r in results if r.link != front and not is_good(r.verdict.status)]

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
            judged = self._judge_one(run, link, left, run.stations[link.actual])
            wrong = any(result.verdict.status is Status.FAIL for result in judged)
            if link.expected == EAGER and wrong and not run.stopped:
                # The first comparison is the guilty one; the files are held against the program.
                run.judge_behind_by(self._subject.program)
            results += judged
        return results

    def _judge_one(
        self, run: CaseRun, link: Link, expected: Arrays, actual: Arrays
    ) -> list[OutputResult]:
        deployment = next((d for d in self._deployments if d.label() == link.actual), None)
        by = run.capture if link.expected == EAGER else run.behind
        station = next((s for s in self._subject.stations if s.name == link.actual), None)
        station = self._last if deployment is not None else station
        results = judge_outputs(
            link.name,
            run.case,
            self._subject.outputs,
            truth=by.truth,
            reference=by.reference,
            expected=expected,
            actual=actual,
            policy=policy_on(self._policy, deployment),
            places=self._places,
            held=self._lowered.outputs(station, self._walks.graph, run.case),
        )
        return with_randomness(results, run, link.actual)

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
            rolled = rollup(name, [r.verdict for r in results if r.link == name])
            reason = None
            if link.expected == EAGER:
                reason = capture_fault(results, runs, self._subject.inputs)
            elif link.actual in self._files.stopped:
                reason = self._files.stopped[link.actual]
            if reason is not None:
                rolled = Rollup(name=name, status=Status.FAIL, reason=reason)
            rollups.append((rolled, link))
        return rollups

    def open_file(self) -> OpenFile:
        """Hand over what is open of the last file; the chain has it no longer."""
        session, self._files.session = self._files.session, None
        return OpenFile(graph=self._walks.take_graph(), session=session)

    def _settled(
        self, results: list[OutputResult], runs: Sequence[CaseRun], walked: Mapping[str, str | None]
    ) -> list[OutputResult]:
        """Outputs behind an ambiguous decision, told from those that are wrong.

        Args:
            runs: those that may be walked. walked: decisions in doubt of cases that were.
        """
        if not self._subject.tapped:
            return results
        known = dict(walked)
        able = {run.case.name for run in runs}
        names = doubtful_cases(self._subject.program, results, {*known, *self._unrun})
        doubtful = [name for name in names if name in able]
        if doubtful:
            with self._stages.stage("ambiguity") as stage:
                cases = [run.case for run in runs if run.case.name in doubtful]
                known |= self._walks.walk(self._last, cases).decisions
                unsure = sum(known[name] is not None for name in doubtful)
                stage.result(f"{unsure} of {len(doubtful)} case(s) rest on a decision in doubt")
        return settle(results, known.get)
