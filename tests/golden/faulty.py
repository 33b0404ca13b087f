"""Check a tampered file against the recorded golden of the tiny SenseVoice."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from exporter.cases.load import load_cases
from exporter.config import Pipeline, load_pipeline
from exporter.core.errors import ArtifactError
from exporter.execution.deployment import Deployment
from exporter.golden.compare_graph import compare_graph, node_prints
from exporter.golden.judge_case import judge_case
from exporter.golden.observe import Observer
from exporter.golden.outcome import CaseOutcome, State
from exporter.golden.store import read_golden
from exporter.golden.values import Golden
from exporter.graph.index import index_graph
from tests.faults.fault import Fault, ModuleFault
from tests.support.tiny_export import TINY

FOLDER = TINY.parents[1] / "golden" / "sensevoice_tiny"
CASE = "english"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check says: with the graph's fingerprints, and from the numbers alone.

    ``refused`` is onnxruntime's message when it does not take the file at all.
    """

    fault: Fault | ModuleFault
    whole: CaseOutcome | None = None
    numbers: CaseOutcome | None = None
    refused: str = ""

    @property
    def caught(self) -> bool:
        """The check does not pass."""
        bad = self.whole is not None and self.whole.state is State.MOVED
        return bad or bool(self.refused)

    @property
    def right(self) -> bool:
        """The first layer that is named is the fault's."""
        return _names(self.whole, self.fault)

    @property
    def caught_by_numbers(self) -> bool:
        """The same without the fingerprints of the graph."""
        bad = self.numbers is not None and self.numbers.state is State.MOVED
        return bad or bool(self.refused)

    @property
    def right_by_numbers(self) -> bool:
        """The same without the fingerprints of the graph."""
        return _names(self.numbers, self.fault)


def _names(outcome: CaseOutcome | None, fault: Fault | ModuleFault) -> bool:
    return (
        outcome is not None and outcome.first is not None and outcome.first.module in fault.layers
    )


class Bench:
    """The golden, its pipeline and one case, loaded once."""

    def __init__(self, threads: int = 1) -> None:
        self.golden: Golden = read_golden(FOLDER)
        self.pipeline: Pipeline = load_pipeline(TINY)
        self.deployment = Deployment(threads=threads)
        (self.case,) = load_cases(self.pipeline, self.golden.inputs, [CASE])
        expected = self.golden.case(CASE)
        assert expected is not None
        self.expected = expected

    def check(self, model: onnx.ModelProto, fault: Fault | ModuleFault) -> Finding:
        graph = index_graph(model, Path())
        taps = self.golden.taps
        structure = compare_graph(self.golden.nodes, node_prints(graph, taps), taps)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(model.SerializeToString())
            try:
                observer = Observer(path, graph, taps, self.deployment)
            except ArtifactError as error:
                return Finding(fault=fault, refused=error.problem)
            sizes = [tap.sketch.elements for tap in self.expected.taps]
            observed = observer.run(self.case.inputs, sizes)
        return Finding(
            fault=fault,
            whole=judge_case(self.expected, taps, observed, structure),
            numbers=judge_case(self.expected, taps, observed),
        )
