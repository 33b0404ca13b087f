"""Compare two ONNX files, or a file with itself on several deployments. Needs no PyTorch.

read both, try them in a process of their own
draw two sets of inputs, or take the user's
join     which values the files have in common (see ``exporter.joining``)
measure  every joined value: alone and in a free run; outputs as deployed
judge    by the limits of everywhere: the truth is one file in float64, and what float32 costs
         there is that file in float32
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from exporter.core.errors import UserInputError
from exporter.core.files import temporary_folder
from exporter.core.stages import Stages
from exporter.core.tensors import Arrays, Case
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.execution.ort_session import LEVELS
from exporter.execution.releases import run_release
from exporter.execution.trial import needs_trial, try_file
from exporter.graph.exposed import expose_stored
from exporter.graph.index import GraphIndex
from exporter.graph.lowered.in_real_numbers import unrounded
from exporter.graph.onnx_file import open_graph
from exporter.joining import join_graphs
from exporter.joining.digests import Digests
from exporter.joining.evaluate import Values
from exporter.joining.interface_inputs import (
    calibrated,
    drawn_sets,
    inputs_of,
    perturbed,
    rounded_for,
)
from exporter.joining.join import FLOAT32
from exporter.joining.joined import Join, Joined, Proof
from exporter.joining.measured import Measured, Sides, inputs_for, measure_joined
from exporter.joining.modules import modules_of
from exporter.joining.pieces_in_words import altered, rewritten
from exporter.joining.same_interface import check_outputs, inputs_of_other, read_case
from exporter.parity.compare import measure
from exporter.parity.exit_code import decide
from exporter.parity.status import Status, Who, severity
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import Verdict, judge
from exporter.report.progress import Progress
from exporter.report.two_files import AlteredRow, OutputRow, TwoFiles, ValueRow
from exporter.report.two_files_headline import two_files_headline

_SEEDS = (11, 23)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """How two files are compared.

    Attributes:
        case: an .npz of inputs by name; drawn from seeds by default.
        sizes: of symbolic axes, where inputs are drawn.
        precision: what the other file may hold.
        level, threads: of onnxruntime, for outputs.
        levels, all_threads: judge the outputs on every level of optimisation, on one thread and
            on all, as well.
        releases: other releases of onnxruntime whose outputs are judged as well.
    """

    case: Path | None = None
    sizes: Mapping[str, int] | None = None
    precision: str = "float32"
    level: str = "all"
    threads: int = 0
    levels: bool = False
    all_threads: bool = False
    releases: tuple[str, ...] = ()


def compare(
    truth: Path,
    other: Path,
    options: CompareOptions | None = None,
    *,
    progress: Stages | None = None,
) -> TwoFiles:
    """Judge ``other`` against ``truth``, value by value.

    Raises:
        ArtifactError: a file cannot be read, or onnxruntime refuses it.
        UserInputError: the files have other inputs or outputs, or no inputs can be found.
    """
    options = options or CompareOptions()
    progress = progress or Progress(quiet=True)
    with temporary_folder() as folder:
        return _Comparison(Path(truth), Path(other), options, progress, folder).report()


class _Comparison:
    def __init__(
        self, truth: Path, other: Path, options: CompareOptions, progress: Stages, folder: Path
    ):
        self.paths, self.options, self.folder = (truth, other), options, folder
        self.progress = progress
        with progress.stage("read the files") as stage:
            self.a = open_graph(truth)
            # Values that a file gives to nobody in floats are looked at in floats.
            self.b = self.a if truth == other else expose_stored(open_graph(other))
            stage.result(f"{len(self.a.nodes)} and {len(self.b.nodes)} nodes")
        self.inputs_of_b = inputs_of_other(self.a, self.b, self.paths)
        check_outputs(self.a, self.b, other)
        self.policy = Policy(precision=options.precision)
        self.deployment = Deployment(level=options.level, threads=options.threads)
        self.notes: list[str] = []
        self.refused: dict[str, str] = {}

    def report(self) -> TwoFiles:
        sets, judged = self._inputs()
        released = self._released(sets[:judged])
        exact = Values(self.folder)
        with self.progress.stage("join the values") as stage:
            joined = join_graphs(
                self.a,
                self.b,
                sets,
                self.folder,
                inputs_of_actual=self.inputs_of_b,
                exact=exact,
            )
            stage.result(f"{len(joined.joins)} joined")
        rows: dict[str, ValueRow] = {}
        outputs: dict[tuple[str, str], OutputRow] = {}
        modules = modules_of(self.a) or modules_of(self.b)
        for number, inputs in enumerate(sets[:judged]):
            name = f"case {number + 1}"
            with self.progress.stage(f"measure {name}") as stage:
                sides = measure_joined(
                    self.a,
                    self.b,
                    joined,
                    inputs,
                    partial(exact.one, at=number),
                    self.folder,
                    inputs_of_actual=self.inputs_of_b,
                    deployment=replace(self.deployment, level="disable"),
                )
                for item in sides.values:
                    row = self._row(item, name, modules, rounds=sides.costs is not None)
                    _keep_worse(rows, row.actual, row)
                found = [(d.label(), FileRun(self.paths[1], d)) for d in self._deployments()]
                runs = {label: run.run(self._for_b(inputs)) for label, run in found}
                runs |= {label: held[number] for label, held in released.items()}
                for row in self._outputs(runs, partial(exact.one, at=number), sides, name):
                    _keep_worse(outputs, (row.name, row.deployment), row)
                stage.result("")
        changed = [
            AlteredRow(
                value=item.join.actual,
                layer=modules.get(item.join.expected, modules.get(item.join.actual, "")),
                words=item.words(),
                fails=True,
            )
            for item in altered(self.a, self._as_meant(joined), joined)
        ]
        return self._report(joined, list(rows.values()), list(outputs.values()), changed, judged)

    def _as_meant(self, joined: Joined) -> GraphIndex:
        """The judged file with the constants that it was rounded from; itself in float32."""
        if joined.restored is None:
            return self.b
        return unrounded(self.b, constants=joined.restored.arrays).graph

    # -- inputs -----------------------------------------------------------------------------------

    def _inputs(self) -> tuple[list[dict[str, np.ndarray]], int]:
        """Sets of inputs, and how many of them are judged; all are used to join."""
        fit = partial(rounded_for, graph=self.b, names=self.inputs_of_b)
        if self.options.case is not None:
            given = fit(read_case(self.options.case, self.a.inputs))
            self.notes.append("joined on the given case and on the same case with other floats")
            self._run([given])
            return [given, fit(perturbed(given, _SEEDS[1]))], 1
        specs = calibrated(inputs_of(self.a, self.paths[0]), self.b, self.inputs_of_b)
        found = drawn_sets(specs, self._run, _SEEDS, self.options.sizes or {}, fit)
        return found, len(_SEEDS)

    def _run(self, sets: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Run both files; one that this program did not make, in a child before it is run here."""
        sides = [(self.paths[0], self.a, {name: name for name in self.a.inputs})]
        if self.paths[0] != self.paths[1]:
            sides.append((self.paths[1], self.b, self.inputs_of_b))
        for path, graph, names in sides:
            cases = [
                Case(name=f"case {at + 1}", inputs=inputs_for(graph, x, names), origin="compare")
                for at, x in enumerate(sets)
            ]
            if needs_trial(path):
                with self.progress.stage("try the file"):
                    try_file(path, [self.deployment], cases)
            run = FileRun(path, self.deployment)
            for case in cases:
                if any(value.size == 0 for value in run.run(case.inputs).values()):
                    raise UserInputError("an output is empty")

    # -- measuring --------------------------------------------------------------------------------

    def _row(
        self, item: Measured, case: str, modules: Mapping[str, str], *, rounds: bool
    ) -> ValueRow:
        join = item.join
        layer = modules.get(join.expected, modules.get(join.actual, ""))
        local = judge(item.local, self.policy, layer=layer)
        # Of a file that rounds, it is not the file's own numbers that agree in float64.
        local = local if rounds else _kernel_or_graph(local, join)
        free = judge(item.propagated, self.policy, layer=layer)
        discrete = item.propagated.kind == "discrete"
        if discrete and free.status is Status.FAIL and local.status is Status.PASS:
            # It decides as the truth does on the truth's values: what is in front differs.
            free = replace(free, status=Status.AMBIGUOUS)
        status = max((local.status, free.status), key=severity)
        worse = local if severity(local.status) >= severity(free.status) else free
        return ValueRow(
            expected=join.expected,
            actual=join.actual,
            layer=layer,
            op=self.b.nodes[self.b.producer[join.actual]].op_type,
            how=join.how.value,
            proof=join.proof.value,
            distance=join.distance if np.isfinite(join.distance) else None,
            local=local.status.value,
            propagated=free.status.value,
            local_strain=local.strain,
            propagated_strain=free.strain,
            verdict=status.value,
            reason=worse.reason if worse.strain is None else _strained(worse),
            case=case,
        )

    def _for_b(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return inputs_for(self.b, inputs, self.inputs_of_b)

    def _released(self, sets: Sequence[Mapping[str, np.ndarray]]) -> dict[str, list[Arrays]]:
        """Outputs under other releases, by label and case; {} where one could not run the file."""
        found: dict[str, list[Arrays]] = {}
        cases = [self._for_b(inputs) for inputs in sets]
        for release in self.options.releases:
            label = f"onnxruntime {release}"
            with self.progress.stage(label) as stage:
                run = run_release(
                    release,
                    self.paths[1],
                    cases,
                    level=self.options.level,
                    threads=self.options.threads,
                )
                stage.result(run.why)
            found[label] = list(run.outputs) or [{} for _ in cases]
            if run.why:
                self.refused[label] = run.why
        return found

    def _outputs(
        self,
        runs: Mapping[str, Arrays],
        exact: Callable[[str], np.ndarray | None],
        sides: Sides,
        case: str,
    ) -> Iterator[OutputRow]:
        for label, found in runs.items():
            for name in self.b.outputs:
                measured = measure(
                    name,
                    truth=exact(name),
                    reference=sides.reference.get(name),
                    actual=found.get(name),
                    role="output",
                )
                if sides.costs is not None:
                    measured = sides.costs.output(name, measured)
                verdict = judge(measured, self.policy, layer="")  # no layer has a limit of its own
                if label in self.refused:
                    why = f"{label} does not run the file: {self.refused[label]}"
                    verdict = replace(verdict, status=Status.NOT_RUN, reason=why)
                yield OutputRow(
                    name=name,
                    deployment=label,
                    verdict=verdict.status.value,
                    strain=verdict.strain,
                    reason=verdict.reason if verdict.strain is None else _strained(verdict),
                    case=case,
                )

    def _deployments(self) -> list[Deployment]:
        found = [self.deployment]
        if self.options.levels:
            found += [replace(self.deployment, level=level) for level in LEVELS]
        if self.options.all_threads:
            found += [replace(self.deployment, threads=threads) for threads in (1, 2, 0)]
        return list(dict.fromkeys(found))

    # -- the report -------------------------------------------------------------------------------

    def _report(
        self,
        joined: Joined,
        values: list[ValueRow],
        outputs: list[OutputRow],
        changed: list[AlteredRow],
        judged: int,
    ) -> TwoFiles:
        words = [item.words() for item in rewritten(self.a, self.b, joined)]
        same_graph = _same_graph(self.a, self.b, self.inputs_of_b)
        decision = decide(
            [
                *((Status(row.verdict), True) for row in (*values, *outputs)),
                *((Status.FAIL, True) for row in changed if row.fails),
            ]
        )
        order = {row.actual: at for at, row in enumerate(values)}
        marked = {row.value for row in changed} | {
            row.actual for row in values if row.local == Status.FAIL.value
        }
        first = next((row for row in values if row.actual in marked), None)
        if first is None:
            first = next((row for row in values if row.verdict == Status.FAIL.value), None)
        not_checked = [f"{name}: {why}" for name, why in sorted(joined.missing.items())]
        if joined.ambiguous:
            not_checked.append(
                f"{len(joined.ambiguous)} values that agree with several of the other file's:"
                f" {', '.join(joined.ambiguous[:5])}"
            )
        if joined.alone:
            not_checked.append(
                f"{len(joined.alone)} values that the other file has none for:"
                f" {', '.join(joined.alone[:5])}"
            )
        return TwoFiles(
            truth=str(self.paths[0]),
            other=str(self.paths[1]),
            verdict=decision.status.value,
            exit_code=decision.exit_code,
            headline=two_files_headline(decision, same_graph, first, changed, values, outputs),
            same_graph=same_graph,
            joined=joined.counts,
            candidates=joined.candidates,
            ambiguous=list(joined.ambiguous),
            alone=list(joined.alone),
            values=sorted(values, key=lambda row: order[row.actual]),
            outputs=outputs,
            altered=changed,
            rewritten=words,
            first=first,
            cases=[f"case {at + 1}" for at in range(judged)],
            deployments=list(dict.fromkeys(row.deployment for row in outputs)),
            notes=self.notes,
            not_checked=not_checked,
        )


def _keep_worse(rows: dict, key: object, row: ValueRow | OutputRow) -> None:
    """One row per value and per output: its worst case."""
    held = rows.get(key)
    if held is None or severity(row.verdict) > severity(held.verdict):
        rows[key] = row


def _strained(verdict: Verdict) -> str:
    strain = verdict.strain or 0.0
    return f"error is {strain:.3g} times its limit"


def _kernel_or_graph(verdict: Verdict, join: Join) -> Verdict:
    """Where both files agree in float64, a kernel loses digits: a finding, not another function."""
    graph_is_right = join.proof is Proof.VALUE and join.distance <= FLOAT32
    if verdict.status is not Status.FAIL or verdict.strain is None or not graph_is_right:
        return verdict
    return replace(verdict, status=Status.FINDING, who=Who.KERNEL)


def _same_graph(a: GraphIndex, b: GraphIndex, names: Mapping[str, str]) -> bool:
    if len(a.nodes) != len(b.nodes):
        return False
    ours, theirs = Digests(a), Digests(b, names)
    return all(ours.of(name) == theirs.of(name) for name in b.outputs)
