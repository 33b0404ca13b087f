"""Run the comparison on a tampered graph and say what was named, rightly or wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from exporter.core.tensors import COMPARED
from exporter.execution.deployment import Deployment
from exporter.graph.compare_graphs import diff_structure
from exporter.graph.difference_kinds import Difference
from exporter.graph.index import index_graph
from exporter.graph.taps import plan_taps
from exporter.judge.layer_results import Judgement, LayerLink
from exporter.judge.layers import judge_layers
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from tests.faults.fault import Fault, ModuleFault
from tests.support.tiny_export import Export

BUDGET = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the comparison found.

    Attributes:
        fault: the fault; None for the clean file.
        link: every tap, judged. differences: the exact diff. Both empty where ``refusal`` says
            why there was no file.
        culprits: layers that fail by themselves, in topological order; where there are none, the
            first place of the free run that fails, unless the diff names a place.
        changed: layers where the diff found something.
    """

    fault: Fault | ModuleFault | None
    link: LayerLink | None = None
    differences: tuple[Difference, ...] = ()
    culprits: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    worst: Judgement | None = None
    refusal: str = ""

    @property
    def numerically(self) -> bool:
        """At least one tap fails."""
        return self.link is not None and any(t.status is Status.FAIL for t in self.link.taps)

    @property
    def structurally(self) -> bool:
        """At least one difference of structure."""
        return bool(self.differences)

    @property
    def detected(self) -> bool:
        """Nobody can take the file for a good one."""
        return self.numerically or self.structurally or bool(self.refusal)

    @property
    def named(self) -> tuple[str, ...]:
        """All layers that a person is sent to."""
        return tuple(dict.fromkeys((*self.culprits, *self.changed)))

    @property
    def right_by_numbers(self) -> bool:
        """The culprits of the comparison in numbers alone are the fault's layer and no other."""
        if self.fault is None or self.link is None:
            return False
        found = {culprit.tap.planned.tap.module for culprit in self.link.culprits}
        return bool(found) and found <= set(self.fault.layers)

    @property
    def right_stage(self) -> bool:
        """Something is named, and all of it lies in the fault's stage."""
        if self.fault is None or self.refusal:
            return self.right_layer
        stages = {layer.split(".")[0] for layer in self.fault.layers}
        return bool(self.named) and {layer.split(".")[0] for layer in self.named} <= stages

    @property
    def right_layer(self) -> bool:
        """The fault's layer is named."""
        if self.fault is None:
            return not self.detected
        if self.refusal:
            words = self.refusal.replace("'", " ").replace(".", " ").split()
            return any(_contains(words, layer.split(".")) for layer in self.fault.layers)
        return any(layer in self.named for layer in self.fault.layers)

    @property
    def wrongly_named(self) -> tuple[str, ...]:
        """Layers that are named and are innocent."""
        guilty = () if self.fault is None else self.fault.layers
        return tuple(layer for layer in self.named if layer not in guilty)


def judge_file(
    clean: Export,
    model: onnx.ModelProto,
    fault: Fault | ModuleFault | None = None,
    deployment: Deployment | None = None,
) -> Outcome:
    """Compare a file with the clean reference, in numbers (on the CPU, if nothing is said) and in
    structure."""
    expected, actual = index_graph(clean.model, Path()), index_graph(model, Path())
    planned = plan_taps(clean.program, expected)
    layers = {tap.onnx_name: tap.tap.module for tap in planned if tap.fate == COMPARED}
    differences = diff_structure(expected, actual, taps=layers)
    link = judge_layers(
        clean.program,
        actual,
        clean.cases,
        policy=Policy(),
        deployment=deployment or Deployment(threads=1),
        budget=BUDGET,
        expected_taps=frozenset(tap.tap.name for tap in planned if tap.fate == COMPARED),
    )
    changed = [
        layers[tap]
        for found in differences
        for tap in (found.tap, *found.also)
        if tap is not None and tap in layers
    ]
    blamed = [
        culprit
        for culprit in link.culprits
        if culprit.local or not changed or culprit.tap.planned.tap.module in changed
    ]
    judged = [c.tap.local if c.local else c.tap.propagated for c in blamed]
    return Outcome(
        fault=fault,
        link=link,
        differences=differences,
        culprits=tuple(culprit.tap.planned.tap.module for culprit in blamed),
        changed=tuple(dict.fromkeys(changed)),
        worst=max((j for j in judged if j is not None), key=_ratio, default=None),
    )


def _ratio(judged: Judgement) -> float:
    return judged.verdict.ratio or 0.0


def _contains(words: list[str], path: list[str]) -> bool:
    """True when a module path, taken apart, occurs in the words of a sentence."""
    width = len(path)
    return any(words[at : at + width] == path for at in range(len(words) - width + 1))
