"""Passes that were not earned: faults in files that an optimiser has rewritten on purpose."""

from __future__ import annotations

import onnx
import pytest

from exporter.report.schema import Report
from tests.false_passes.way import Told, way
from tests.support import optimised
from tests.support.optimised import Run, set_epsilon, set_weight


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("optimised"))


def told(report: Report) -> Told:
    return Told(exit_code=report.exit_code, text=report.headline)


HIDDEN = set_epsilon(1.2e-5)
"""An epsilon that no number of the case shows."""


@way("an epsilon that no number shows, in a file that onnxsim has rewritten", says="'epsilon'")
def test_a_hidden_epsilon_in_a_simplified_file(run: Run) -> Told:
    path = run.through(optimised.simplified, run.changed(HIDDEN))
    return told(run.verify(path))


@way(
    "an epsilon that no number shows, in a norm that was fused with the sum in front of it",
    says="'epsilon'",
)
def test_a_hidden_epsilon_in_a_fused_norm(run: Run) -> Told:
    return told(run.verify(run.through(optimised.fused, run.changed(HIDDEN))))


@way("an epsilon that no number shows, every value of the file renamed", says="'epsilon'")
def test_a_hidden_epsilon_behind_new_names(run: Run) -> Told:
    return told(run.verify(run.through(optimised.renamed, run.changed(HIDDEN))))


@way(
    "a weight that changes no output (a key's bias, which softmax takes away), in a folded file",
    says="model.blocks.1.k",
)
def test_a_weight_that_softmax_hides(run: Run) -> Told:
    fault = set_weight("model.blocks.1.k.bias", (3,), 1.5)
    return told(run.verify(run.through(optimised.folded, run.changed(fault))))


@way("a weight changed before it was folded into its neighbour", says="model.blocks.0.conv")
def test_a_folded_weight(run: Run) -> Told:
    fault = set_weight("model.blocks.0.conv.weight", (3, 2, 1), 1.001)
    return told(run.verify(run.through(optimised.folded, run.changed(fault))))


@way("a mask dropped before onnxruntime has optimised the file", says="masked_fill")
def test_a_dropped_mask(run: Run) -> Told:
    return told(run.verify(run.through(optimised.extended, run.changed(optimised.drop_mask))))


@way("a tampered weight, declared to be changed on purpose", says="weight")
def test_a_plain_change_is_no_purpose(run: Run) -> Told:
    """One element by one part in a million: no limit shows it, and no tool does it."""
    report = run.verify(run.changed(set_weight("model.blocks.0.norm.bias", (2,), 1.0)))
    assert report.exit_code == 0, "the very file"
    fault = set_weight("model.blocks.0.norm.weight", (2,), 1.0 + 2.0**-23)
    return told(run.verify(run.changed(fault)))


@way("an optimised file, and nobody says that it was meant", says="--changed-on-purpose")
def test_an_optimised_file_without_the_purpose(run: Run) -> Told:
    return told(run.verify(run.through(optimised.simplified), on_purpose=False))


@way("an axis frozen on the way through an optimiser", says="constant 2")
def test_a_frozen_axis(run: Run) -> Told:
    def freeze(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            size = value.type.tensor_type.shape.dim[0]
            size.ClearField("dim_param")
            size.dim_value = 2

    return told(run.verify(run.through(optimised.simplified, run.changed(freeze))))


@way(
    "a fault in a file without metadata, under names that have survived", says="model.blocks.0.conv"
)
def test_a_fault_without_metadata(run: Run) -> Told:
    fault = set_weight("model.blocks.0.conv.bias", (3,), 1.01)
    path = run.through(optimised.stripped, run.changed(fault))
    return told(run.verify(path, on_purpose=False))
