"""Values and outputs of two files, measured and judged: one row each, of its worst case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from exporter.core.tensors import Arrays
from exporter.flows.compare_inputs import FilePair
from exporter.joining.join import FLOAT32
from exporter.joining.joined import Join, Proof
from exporter.joining.measured import FILES, BothFiles, Measured
from exporter.joining.modules import modules_of
from exporter.parity.coarse_formats import undeclared
from exporter.parity.compare import measure
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status, Who, severity
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import Verdict, judge
from exporter.report.two_files import AlteredRow, TwoFilesOutput, ValueRow


@dataclass(slots=True)
class ComparedRows:
    """What is judged so far.

    Attributes:
        refused: why a release of onnxruntime does not run the file, by its label.
    """

    pair: FilePair
    policy: Policy
    refused: Mapping[str, str]
    _modules: Mapping[str, str] = field(init=False)
    _values: dict[str, ValueRow] = field(default_factory=dict)
    _outputs: dict[tuple[str, str], TwoFilesOutput] = field(default_factory=dict)
    _unsaid: dict[str, AlteredRow] = field(default_factory=dict)
    _otherwise: dict[tuple[str, str], tuple[object, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._modules = modules_of(self.pair.a) or modules_of(self.pair.b)

    @property
    def values(self) -> list[ValueRow]:
        """One row per joined value, in the order of the judged file."""
        return list(self._values.values())

    @property
    def outputs(self) -> list[TwoFilesOutput]:
        """One row per output and deployment."""
        return list(self._outputs.values())

    @property
    def unsaid(self) -> list[AlteredRow]:
        """Constants that are wrong, and that no value is computed with which could say so."""
        return list(self._unsaid.values())

    def layer(self, join: Join) -> str:
        """Module that a joined value is of, where a file says it."""
        return self.layer_of(join.expected, join.actual)

    def layer_of(self, expected: str, actual: str) -> str:
        """The same, by the names of a value."""
        return self._modules.get(expected, self._modules.get(actual, ""))

    def add_values(self, sides: BothFiles, case: str) -> None:
        """Judge every joined value of a case: alone, and in the free run."""
        for item in sides.values:
            row = self._value(item, case, rounds=sides.costs is not None)
            _keep_worse(self._values, row.actual, row)
        said = sides.costs.unsaid() if sides.costs is not None else ""
        if said:
            self._unsaid[said] = AlteredRow(value="", layer="", words=said, fails=True)

    def add_outputs(
        self,
        runs: Mapping[str, Arrays],
        exact: Callable[[str], np.ndarray | None],
        sides: BothFiles,
        case: str,
    ) -> None:
        """Judge the outputs of a case, by the label of what ran them.

        Args:
            exact: the truth in float64, by name.
        """
        for label, found in runs.items():
            for name in self.pair.b.outputs:
                measured = measure(
                    name,
                    truth=exact(name),
                    reference=sides.reference.get(name),
                    actual=found.get(name),
                    role="output",
                    sides=FILES,
                )
                if sides.costs is not None:
                    measured = sides.costs.output(name, measured)
                verdict = judge(measured, self.policy, layer="")  # no layer has a limit of its own
                otherwise = self._otherwise.get((name, case))
                if otherwise is not None and otherwise == _differing(measured):
                    # Bit by bit what the file decides on its own values: as the truth does on its.
                    verdict = replace(verdict, status=Status.AMBIGUOUS)
                if label in self.refused:
                    why = f"{label} does not run the file: {self.refused[label]}"
                    verdict = replace(verdict, status=Status.NOT_RUN, reason=why)
                row = TwoFilesOutput(
                    name=name,
                    deployment=label,
                    verdict=verdict.status.value,
                    strain=verdict.strain,
                    reason=_reason(verdict, self.policy),
                    case=case,
                )
                _keep_worse(self._outputs, (name, label), row)

    def _value(self, item: Measured, case: str, *, rounds: bool) -> ValueRow:
        join = item.join
        layer = self.layer(join)
        free = judge(item.propagated, self.policy, layer=layer)
        # None where nothing was measured: then the free run alone is the verdict.
        local = None if item.local is None else judge(item.local, self.policy, layer=layer)
        if local is not None and not rounds:
            # Of a file that rounds, it is not the file's own numbers that agree in float64.
            local = _kernel_or_graph(local, join)
        discrete = item.propagated.kind == "discrete"
        as_the_truth = local is None or local.status is Status.PASS
        if discrete and free.status is Status.FAIL and as_the_truth:
            # It decides as the truth does on the truth's values: what is in front differs.
            free = replace(free, status=Status.AMBIGUOUS)
            self._otherwise[join.actual, case] = _differing(item.propagated)
        worse = free
        if local is not None and severity(local.status) >= severity(free.status):
            worse = local
        graph = self.pair.b
        return ValueRow(
            expected=join.expected,
            actual=join.actual,
            layer=layer,
            op=graph.nodes[graph.producer[join.actual]].op_type,
            how=join.how.value,
            proof=join.proof.value,
            distance=join.distance if np.isfinite(join.distance) else None,
            local=None if local is None else local.status.value,
            propagated=free.status.value,
            local_strain=None if local is None else local.strain,
            propagated_strain=free.strain,
            verdict=worse.status.value,
            reason=_reason(worse, self.policy),
            case=case,
        )


def _differing(measured: Measurement) -> tuple[object, ...]:
    """Which decisions of a file are not the truth's, as far as is measured."""
    return measured.problem, measured.mismatches, measured.first_mismatch


def _keep_worse(rows: dict, key: object, row: ValueRow | TwoFilesOutput) -> None:
    held = rows.get(key)
    if held is None or severity(row.verdict) > severity(held.verdict):
        rows[key] = row


def _reason(verdict: Verdict, policy: Policy) -> str:
    strain, passed = verdict.strain, verdict.status is Status.PASS
    # A verdict that does not follow from the error has another reason: a limit that shows nothing.
    if strain is None or passed != (strain <= 1.0):
        return verdict.reason
    said = f"error is {strain:.3g} times its limit"
    return f"{undeclared(verdict.coarse, policy)}; {said}" if verdict.coarse else said


def _kernel_or_graph(verdict: Verdict, join: Join) -> Verdict:
    """Where both files agree in float64, a kernel loses digits: a finding, not another function."""
    graph_is_right = join.proof is Proof.VALUE and join.distance <= FLOAT32
    if verdict.status is not Status.FAIL or verdict.strain is None or not graph_is_right:
        return verdict
    return replace(verdict, status=Status.FINDING, who=Who.KERNEL)
