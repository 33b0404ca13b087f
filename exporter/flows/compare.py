"""Compare two ONNX files, or a file with itself on several deployments. Needs no PyTorch.

read both, try them in a process of their own
draw two sets of inputs, or take the user's
join     which values the files have in common (see ``exporter.joining``)
measure  every joined value: alone and in a free run; outputs as deployed
judge    by the limits of everywhere: the truth is one file in float64, and what float32 costs
         there is that file in float32
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exporter.core.files import temporary_folder
from exporter.core.stages import Stages
from exporter.core.tensors import Case
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.execution.ort_session import LEVELS
from exporter.execution.trial import try_file
from exporter.graph.certificate import is_own
from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import open_graph
from exporter.joining import join_graphs
from exporter.joining.digests import Digests
from exporter.joining.evaluate import Values, evaluate
from exporter.joining.interface_inputs import drawn_sets, inputs_of, perturbed
from exporter.joining.join import FLOAT32
from exporter.joining.joined import Join, Joined, Proof
from exporter.joining.measured import Measured, measure_joined
from exporter.joining.modules import modules_of
from exporter.joining.pieces_in_words import altered, rewritten
from exporter.joining.precision import WITHIN
from exporter.joining.same_interface import check_outputs, inputs_of_other, read_case
from exporter.parity.compare import measure
from exporter.parity.exit_code import Decision, decide
from exporter.parity.status import Status, Who, severity
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import Verdict, judge
from exporter.report.progress import Progress
from exporter.report.two_files import AlteredRow, OutputRow, TwoFiles, ValueRow

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
    """

    case: Path | None = None
    sizes: Mapping[str, int] | None = None
    precision: str = "float32"
    level: str = "all"
    threads: int = 0
    levels: bool = False
    all_threads: bool = False


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
            self.b = self.a if truth == other else open_graph(other)
            stage.result(f"{len(self.a.nodes)} and {len(self.b.nodes)} nodes")
        self.inputs_of_b = inputs_of_other(self.a, self.b, self.paths)
        check_outputs(self.a, self.b, other)
        self.policy = Policy(precision=options.precision)
        self.deployment = Deployment(level=options.level, threads=options.threads)
        self.notes: list[str] = []

    def report(self) -> TwoFiles:
        sets, judged = self._inputs()
        self._try(sets[:judged])
        with self.progress.stage("join the values") as stage:
            joined = join_graphs(
                self.a,
                self.b,
                sets,
                self.folder,
                inputs_of_actual=self.inputs_of_b,
                within=WITHIN[self.options.precision],
            )
            stage.result(f"{len(joined.joins)} joined")
        rows: dict[str, ValueRow] = {}
        outputs: list[OutputRow] = []
        modules = modules_of(self.a) or modules_of(self.b)
        for number, inputs in enumerate(sets[:judged]):
            name = f"case {number + 1}"
            with self.progress.stage(f"measure {name}") as stage:
                for row in self._values(joined, inputs, name, modules):
                    held = rows.get(row.actual)
                    if held is None or severity(row.verdict) > severity(held.verdict):
                        rows[row.actual] = row
                outputs += self._outputs(inputs, name)
                stage.result("")
        changed = [
            AlteredRow(
                value=item.join.actual,
                layer=modules.get(item.join.expected, modules.get(item.join.actual, "")),
                words=item.words(),
                fails=True,
            )
            for item in altered(self.a, self.b, joined)
        ]
        return self._report(joined, list(rows.values()), outputs, changed, judged)

    # -- inputs -----------------------------------------------------------------------------------

    def _inputs(self) -> tuple[list[dict[str, np.ndarray]], int]:
        """Sets of inputs, and how many of them are judged; all are used to join."""
        if self.options.case is not None:
            given = read_case(self.options.case, self.a.inputs)
            self.notes.append("joined on the given case and on the same case with other floats")
            return [given, perturbed(given, _SEEDS[1])], 1
        specs = inputs_of(self.a, self.paths[0])
        runs = [
            (FileRun(self.paths[0], self.deployment), {name: name for name in self.a.inputs}),
            (FileRun(self.paths[1], self.deployment), self.inputs_of_b),
        ]
        return drawn_sets(specs, runs, _SEEDS, self.options.sizes or {}), len(_SEEDS)

    def _try(self, sets: Sequence[Mapping[str, np.ndarray]]) -> None:
        for path, names in zip(self.paths, (None, self.inputs_of_b), strict=True):
            if is_own(path) or (path == self.paths[0] and names is not None):
                continue
            held = names or {name: name for name in self.a.inputs}
            cases = [
                Case(
                    name=f"case {at + 1}",
                    inputs={name: inputs[ours] for name, ours in held.items()},
                    origin="compare",
                )
                for at, inputs in enumerate(sets)
            ]
            with self.progress.stage("try the file"):
                try_file(path, [self.deployment], cases)

    # -- measuring --------------------------------------------------------------------------------

    def _values(
        self,
        joined: Joined,
        inputs: Mapping[str, np.ndarray],
        case: str,
        modules: Mapping[str, str],
    ) -> list[ValueRow]:
        found = measure_joined(
            self.a,
            self.b,
            joined,
            inputs,
            self.folder,
            inputs_of_actual=self.inputs_of_b,
            deployment=replace(self.deployment, level="disable"),
        )
        return [self._row(item, case, modules) for item in found]

    def _row(self, item: Measured, case: str, modules: Mapping[str, str]) -> ValueRow:
        join = item.join
        layer = modules.get(join.expected, modules.get(join.actual, ""))
        local = _kernel_or_graph(judge(item.local, self.policy, layer=layer), join)
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

    def _outputs(self, inputs: Mapping[str, np.ndarray], case: str) -> list[OutputRow]:
        values = evaluate(self.a, [inputs], Values(self.folder)).values
        reference = FileRun(self.paths[0], replace(self.deployment, level="disable")).run(inputs)
        theirs = {name: inputs[ours] for name, ours in self.inputs_of_b.items()}
        rows = []
        for deployment in self._deployments():
            found = FileRun(self.paths[1], deployment).run(theirs)
            for name in self.b.outputs:
                exact = values.get(name)
                measured = measure(
                    name,
                    truth=None if exact is None else exact[0],
                    reference=reference.get(name),
                    actual=found.get(name),
                    role="output",
                )
                verdict = judge(measured, self.policy, layer="")  # no layer has a limit of its own
                rows.append(
                    OutputRow(
                        name=name,
                        deployment=deployment.label(),
                        verdict=verdict.status.value,
                        strain=verdict.strain,
                        reason=verdict.reason if verdict.strain is None else _strained(verdict),
                        case=case,
                    )
                )
        return rows

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
            headline=_headline(decision, same_graph, first, changed, values, outputs),
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
            deployments=[deployment.label() for deployment in self._deployments()],
            notes=self.notes,
            not_checked=not_checked,
        )


def _headline(
    decision: Decision,
    same_graph: bool,
    first: ValueRow | None,
    changed: Sequence[AlteredRow],
    values: Sequence[ValueRow],
    outputs: Sequence[OutputRow],
) -> str:
    if decision.status is Status.PASS:
        graph = "same graph" if same_graph else "other graph"
        return f"same function, {graph}: {len(values)} values and {len(outputs)} outputs agree"
    if first is None:
        bad = next((row for row in outputs if row.verdict != Status.PASS.value), None)
        where = f" at output '{bad.name}' ({bad.deployment})" if bad else ""
        return f"not shown to be the same function: {decision.status.value}{where}"
    where = f"'{first.actual}' ({first.op})"
    if first.layer:
        where = f"layer {first.layer}, {where}"
    said = next((row.words for row in changed if row.value == first.actual), "")
    if not said:
        strain = first.local_strain if first.local == Status.FAIL.value else first.propagated_strain
        said = first.reason if strain is None else f"error is {strain:.3g} times its limit"
    return f"not the same function: first in {where}: {said}"


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
