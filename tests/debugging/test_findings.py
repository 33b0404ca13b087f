"""What is said about a layer: the op, what differs, both values, and nothing about the innocent."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.debugging import isolate as isolate_file
from exporter.debugging import variations as variations_file
from exporter.debugging.debug_layers import debug_file
from exporter.debugging.diagnose import Diagnosis, diagnose
from exporter.debugging.located_differences import locate_differences
from exporter.debugging.pair import Pair, against
from exporter.debugging.select import find_layer
from exporter.debugging.variations import REFERENCE
from exporter.execution.onnx_runs import WindowRun
from exporter.graph.onnx_file import read_model
from exporter.graph.subgraph import OWN
from tests.debugging.conftest import Tamper, indexed

BUDGET = 1 << 30
ATTENTION = "model.encoder.encoders.0.self_attn"
FEED_FORWARD = "model.encoder.encoders.0.feed_forward"


def look(pair: Pair, model, name: str) -> Diagnosis:
    given = against(pair, indexed(model, pair), pair.path)
    return diagnose(given, find_layer(given, name), locate_differences(given))


def test_nothing_is_said_about_a_clean_file(pair: Pair):
    assert debug_file(pair, read_model(pair.path), pair.path, budget=BUDGET) == ()


def test_every_op_of_a_clean_layer_has_figures_and_passes(pair: Pair):
    found = diagnose(pair, find_layer(pair, ATTENTION), ())
    live = [row for row in found.held.rows if row.nodes]
    assert len(live) > 20
    assert all(row.local is not None and not row.fails_by_itself for row in live)
    assert all(row.local is not None and row.local.measurement.compared for row in live)
    assert found.findings == ()
    assert [v.name for v in found.matrix if v.separate.agrees is not True] == []


def test_two_faults_at_once_are_both_named_and_nobody_else(pair: Pair, tamper: Tamper):
    model = tamper("relu_removed", "epsilon_of_the_first_norm")
    found = debug_file(pair, model, pair.path, budget=BUDGET)
    told = {f.layer: f for d in found for f in d.findings}
    norm, relu = "model.encoder.encoders0.0.norm1", f"{FEED_FORWARD}.activation"
    assert list(told) == [norm, relu]
    assert (told[norm].thing, told[norm].expected, told[norm].actual) == (
        "epsilon",
        "1e-05",
        "1e-06",
    )
    assert "Relu" in told[relu].expected
    assert "Identity" in told[relu].actual


def test_a_fault_in_one_weight_element_gives_parameter_index_and_both_values(
    pair: Pair, tamper: Tamper
):
    (found,) = debug_file(pair, tamper("one_weight_element_zeroed"), pair.path, budget=BUDGET)
    (finding,) = found.findings
    assert f"{FEED_FORWARD}.w_1.weight, transposed" in finding.thing
    assert finding.expected.endswith("at [100, 1000]")
    assert finding.actual == "0 at [100, 1000]"
    assert "1 of 1,048,576 elements differ" in finding.text
    assert finding.shown


def test_what_no_number_shows_is_still_a_finding(pair: Pair, tamper: Tamper):
    (found,) = debug_file(pair, tamper("log_floor_lowered"), pair.path, budget=BUDGET)
    (finding,) = found.findings
    assert not finding.shown
    assert "1.1920929e-07" in finding.expected
    assert "1.00000001e-10" in finding.actual
    assert found.held.failing == ()


def test_a_baked_shape_is_called_one(pair: Pair, tamper: Tamper):
    found = look(pair, tamper("time_axis_baked"), ATTENTION)
    assert any(
        "shape is baked in" in f.text and "[-1, 21, 4, 128]" in f.text for f in found.findings
    )


def test_a_layer_behind_a_fault_is_right_and_points_upstream(pair: Pair, tamper: Tamper):
    model = tamper("relu_removed")
    given = against(pair, indexed(model, pair), pair.path)
    layer = find_layer(given, "model.encoder.tp_encoders.0.norm1")
    guilty = f"{FEED_FORWARD}.activation"
    found = diagnose(given, layer, locate_differences(given), upstream=[guilty])
    assert [f.kind for f in found.findings] == ["input"]
    assert f"look upstream at '{guilty}'" in found.findings[0].text
    assert found.held.failing == ()


def test_a_wrong_weight_is_found_without_a_clean_file_to_compare_with(pair: Pair, tamper: Tamper):
    given = against(pair, indexed(tamper("cmvn_divides_by_variance"), pair), pair.path)
    found = diagnose(given, find_layer(given, "cmvn"), ())
    (finding,) = found.findings
    assert (finding.kind, finding.thing) == ("weight", "cmvn.scale")
    assert finding.expected != finding.actual


@pytest.mark.parametrize("layer", ["model.encoder.encoders0.0.norm1", "model.ctc", "lfr"])
def test_what_enters_a_layer_of_a_clean_file_is_not_accused(pair: Pair, layer: str):
    assert diagnose(pair, find_layer(pair, layer), ()).findings == ()


@pytest.fixture
def broken_softmax(monkeypatch: pytest.MonkeyPatch):
    """Make onnxruntime's Softmax wrong at some optimisation levels."""

    def install(levels: set[str]) -> None:
        class Broken(WindowRun):
            def __init__(self, window, graph, deployment):
                super().__init__(window, graph, deployment)
                self.broken = deployment.level in levels

            def run(self, feeds):
                found = super().run(feeds)
                return {n: self._spoil(n, v) for n, v in found.items()}

            def _spoil(self, name: str, value: np.ndarray) -> np.ndarray:
                wrong = self.broken and name.removesuffix(OWN).startswith("softmax")
                return value * np.float32(1.001) if wrong else value

        monkeypatch.setattr(isolate_file, "WindowRun", Broken)
        monkeypatch.setattr(variations_file, "WindowRun", Broken)

    return install


def test_a_kernel_that_is_wrong_at_one_level_is_called_that(pair: Pair, broken_softmax):
    broken_softmax({"all"})
    found = diagnose(pair, find_layer(pair, ATTENTION), ())
    (finding,) = found.findings
    assert finding.kind == "kernel"
    assert "Softmax" in finding.node
    assert "only at graph optimisation level all" in finding.text
    wrong = {v.deployment.level for v in found.matrix if v.deployment and not v.separate.agrees}
    assert wrong == {"all"}


def test_a_kernel_that_is_wrong_at_every_level_loses_to_the_reference_evaluator(
    pair: Pair, broken_softmax
):
    broken_softmax({"disable", "basic", "extended", "all"})
    found = diagnose(pair, find_layer(pair, ATTENTION), ())
    (finding,) = found.findings
    assert finding.kind == "kernel"
    assert "passes in ONNX's reference evaluator, not in onnxruntime" in finding.text
    assert next(v for v in found.matrix if v.name == REFERENCE).separate.agrees


def test_a_graph_that_is_wrong_everywhere_is_not_blamed_on_a_kernel(pair: Pair, tamper: Tamper):
    given = against(pair, indexed(tamper("softmax_over_queries"), pair), pair.path)
    found = diagnose(given, find_layer(given, "model.encoder.tp_encoders.0.self_attn"), ())
    (finding,) = found.findings
    assert finding.kind == "graph"
    assert "in onnxruntime and in ONNX's reference evaluator alike" in finding.text
