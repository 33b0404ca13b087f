"""Hold a file against a golden, on cases whose inputs are at hand: structure, interface, numbers.

Who asks may have a pipeline (``golden check``) or only what was kept of one (``monitor replay``);
both are judged here, in one way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from exporter.build.metadata import GRAPH_DIGEST
from exporter.core.tensors import FUSED, Arrays, Case
from exporter.execution.deployment import Deployment
from exporter.execution.trial import try_file
from exporter.golden.compare_graph import compare_graph, node_prints, structure_decides
from exporter.golden.compare_interface import compare_interface, interface_of
from exporter.golden.judge_case import judge_case, judge_coverage
from exporter.golden.observe import Observer
from exporter.golden.outcome import (
    CaseOutcome,
    CheckOutcome,
    LayerMove,
    State,
    changed,
    flat_environment,
    worst,
)
from exporter.golden.values import NOT_VOUCHED, Golden, GoldenCase
from exporter.graph.certificate import needs_trial
from exporter.graph.index import GraphIndex
from exporter.report.environment import describe_environment

INTERFACE = "(interface)"
"""What stands for the file's interface where cases are listed; no case can have this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a pipeline asks of a check.

    Attributes:
        graph_digest, opset, min_coverage, max_ambiguous: the pipeline's.
        names: what the file alone calls an input, by the pipeline's name of it.
    """

    graph_digest: str
    opset: int
    min_coverage: float | None
    max_ambiguous: int
    names: Mapping[str, str] = field(default_factory=dict)

    def theirs(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Inputs of a case under the names that a file alone has for them."""
        return {self.names.get(name, name): value for name, value in inputs.items()}


def judge_file(
    golden: Golden,
    asked: Asked,
    usable: Sequence[tuple[GoldenCase, Case]],
    graph: GraphIndex,
    onnx: Path,
    deployment: Deployment,
    empty: CheckOutcome,
    *,
    outcomes: Sequence[CaseOutcome] = (),
    try_first: bool = False,
    progress: Callable[[str], None] = lambda text: None,
    outputs_of: Callable[[Arrays], Mapping[str, np.ndarray]] | None = None,
) -> CheckOutcome:
    """Judge ``onnx`` on the cases that can be judged.

    Args:
        usable: what was recorded, with the inputs that were recorded.
        graph: of ``onnx``.
        empty: names what is checked; what is found is put in.
        outcomes: of the cases that cannot be judged.
        try_first: run a file that this program did not make in a process of its own first.
        outputs_of: gives the outputs, where the file is run by somebody else already.
    """
    outcomes = list(outcomes)
    record = describe_environment(deployment.threads, (deployment.provider,))
    environment = changed(golden.environment, flat_environment(record))
    now = node_prints(graph, golden.taps)
    structure = compare_graph(golden.nodes, now, golden.taps)
    metadata = {item.key: item.value for item in graph.model.metadata_props}
    # A graph that another tool writes anew is judged by its numbers, unless PyTorch vouches for
    # the golden: then no name and no metadata that a file lacks may take the check of its nodes.
    interface = interface_of(graph)
    other_opset = golden.interface is not None and golden.interface.opset != interface.opset
    other_nodes = {node.name for node in golden.nodes} != {node.name for node in now}
    anew = GRAPH_DIGEST not in metadata and (other_nodes or other_opset)
    rewritten = anew and not golden.vouched
    decides = structure_decides(environment) and not rewritten
    opset = asked.opset if asked.graph_digest == golden.graph_digest else None
    if differences := compare_interface(golden, interface, opset=opset, any_opset=rewritten):
        reason = "; ".join(difference.text for difference in differences)
        outcomes.append(CaseOutcome(case=INTERFACE, state=State.MOVED, reason=reason))
    if any(difference.blocks for difference in differences):
        reason = "not run: the file does not take the inputs that were recorded"
        outcomes += [
            CaseOutcome(case=expected.name, state=State.MOVED, reason=reason)
            for expected, _ in usable
        ]
        usable = []
    if usable:
        if try_first and needs_trial(onnx):
            progress("the file in a process of its own")
            named = [replace(case, inputs=asked.theirs(case.inputs)) for _, case in usable]
            try_file(onnx, [deployment], named)
        size = int(golden.run["window_bytes"])
        observer = Observer(onnx, graph, golden.taps, deployment, size, outputs_of=outputs_of)
        for expected, case in usable:
            progress(case.name)
            given = asked.theirs(case.inputs)
            observed = observer.run(given, [tap.sketch.elements for tap in expected.taps])
            decisive = structure if decides else ()
            outcomes.append(judge_case(expected, golden.taps, observed, decisive))
    names = {*graph.producer, *graph.initializers}
    fused = sum(tap.fate == FUSED and tap.onnx_name not in names for tap in golden.taps)
    outcomes += judge_coverage(outcomes, fused, asked.min_coverage)
    return replace(
        empty,
        vouched=golden.vouched,
        cases=tuple(outcomes),
        numbers=worst(tuple(outcome.state for outcome in outcomes)),
        environment=environment,
        structure=structure,
        structure_decides=decides,
        max_ambiguous=asked.max_ambiguous,
        notes=tuple(_structure_notes(golden, structure, rewritten, decides)),
    )


def _structure_notes(
    golden: Golden, structure: Sequence[LayerMove], rewritten: bool, decides: bool
) -> Iterator[str]:
    if not golden.vouched:
        yield f"{NOT_VOUCHED}: the golden is what a file gave when it was recorded"
    if structure and rewritten:
        yield (
            f"{len(structure)} nodes of the graph differ: another tool has written it anew, so"
            " this decides nothing, and numbers do"
        )
    elif structure and not decides:
        yield (
            f"{len(structure)} nodes of the graph differ; the packages that make it do too, so "
            "this decides nothing"
        )
