"""Files that were optimised on purpose: right ones pass, wrong ones fail in the right layer."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from exporter.core.errors import OnnxStoppedError
from exporter.judge import joined_taps
from exporter.report.schema import Report
from tests.support import optimised
from tests.support.optimised import KEEP_NAMES, Run, Tool, fates

BY_NAME = pytest.mark.parametrize("tool", KEEP_NAMES, ids=lambda tool: tool.__name__)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("optimised"))


def layers_at_fault(report: Report) -> set[str]:
    return {culprit.layer for culprit in report.culprits}


@BY_NAME
def test_a_right_file_passes_and_its_values_are_compared(run: Run, tool: Tool):
    report = run.verify(run.through(tool))
    assert report.exit_code == 0, report.headline
    assert report.culprits == []
    found = list(fates(report).values())
    assert found.count("compared") >= 0.7 * len(found)
    assert report.structure and all(item.accepted for item in report.structure)
    assert "on purpose" in report.headline


@BY_NAME
def test_nobody_is_blamed_where_the_purpose_is_not_said_and_the_remedy_is_told(
    run: Run, tool: Tool
):
    report = run.verify(run.through(tool), on_purpose=False)
    assert report.exit_code == 1
    assert report.culprits == []
    assert "--changed-on-purpose" in report.headline
    assert not any(item.accepted for item in report.structure)


def test_a_name_that_holds_another_value_is_compared_as_what_it_holds(run: Run):
    report = run.verify(run.through(optimised.folded))
    held = {
        tap.name: tap.held_as
        for link in report.links
        for layer in link.layers
        for tap in layer.taps
        if tap.held_as
    }
    assert held == {"getitem": "conv1d", "getitem_1": "conv1d_1"}
    assert {n for n, fate in fates(report).items() if fate == "moved"} == {"conv1d", "conv1d_1"}
    assert any("'getitem' is called 'conv1d' there" in note for note in report.notes)


@BY_NAME
@pytest.mark.parametrize(
    ("fault", "layers"),
    [
        (optimised.set_weight("model.blocks.0.conv.weight", (3, 2, 1), 1.5), ("conv", "bn")),
        (optimised.set_weight("model.blocks.1.bn.running_var", (4,), 1.01), ("conv", "bn")),
        (optimised.set_epsilon(1e-3), ("norm",)),
        (optimised.drop_mask, ("",)),
    ],
    ids=["weight", "variance", "epsilon", "mask"],
)
def test_a_fault_in_an_optimised_file_is_found_in_its_layer(
    run: Run, tool: Tool, fault, layers: tuple[str, ...]
):
    path = run.through(tool, run.changed(fault))
    report = run.verify(path)
    assert report.exit_code == 1
    blocks = {f"model.blocks.{block}" for block in (0, 1)}
    named = layers_at_fault(report)
    assert named, report.headline
    assert named <= {f"{block}.{layer}".rstrip(".") for block in blocks for layer in layers}


def test_a_fault_in_front_does_not_make_folded_layers_look_wrong(run: Run):
    fault = optimised.set_weight("model.blocks.0.conv.weight", (3, 2, 1), 1.5)
    report = run.verify(run.through(optimised.folded, run.changed(fault)))
    assert layers_at_fault(report) == {"model.blocks.0.conv"}


def test_a_file_without_metadata_is_joined_by_names_that_numbers_bear_out(run: Run):
    report = run.verify(run.through(optimised.stripped), on_purpose=False)
    assert report.exit_code == 0, report.headline
    assert list(fates(report).values()).count("compared") > 40
    fault = optimised.set_weight("model.blocks.0.conv.weight", (3, 2, 1), 1.5)
    report = run.verify(run.through(optimised.stripped, run.changed(fault)), on_purpose=False)
    assert report.exit_code == 1
    assert layers_at_fault(report) == {"model.blocks.0.conv"}


def test_without_metadata_a_folded_layer_is_not_blamed_either(run: Run):
    path = run.through(optimised.stripped, run.through(optimised.folded))
    report = run.verify(path, on_purpose=False)
    assert report.exit_code == 0, report.headline
    assert list(fates(report).values()).count("compared") > 40


def test_a_file_whose_values_have_other_names_is_joined_by_what_they_compute(run: Run):
    report = run.verify(run.through(optimised.renamed))
    assert report.exit_code == 0, report.headline
    assert list(fates(report).values()).count("compared") > 40
    fault = optimised.set_weight("model.blocks.0.conv.weight", (3, 2, 1), 1.5)
    report = run.verify(run.through(optimised.renamed, run.changed(fault)))
    assert report.exit_code == 1
    assert layers_at_fault(report) == {"model.blocks.0.conv"}


def test_values_that_could_not_be_joined_are_said(run: Run, monkeypatch: pytest.MonkeyPatch):
    def stopped(*_: object, **__: object) -> None:
        raise OnnxStoppedError("not enough memory for its values")

    monkeypatch.setattr(joined_taps, "join_graphs", stopped)
    report = run.verify(run.through(optimised.renamed))
    assert "outputs only" in report.headline
    assert any("could not be joined" in n and "not enough memory" in n for n in report.notes)
    assert any(line.startswith("layers:") for line in report.not_checked)
    assert not any(link.layers for link in report.links)


def test_names_that_two_values_have_exchanged_are_no_fault_without_metadata(run: Run):
    """A tool that numbers values anew: right numbers, names that mean others."""

    def exchange(model: onnx.ModelProto) -> None:
        names = {
            "linear": "linear_1",
            "linear_1": "linear",
            "softmax": "matmul",
            "matmul": "softmax",
        }
        for node in model.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        del model.graph.value_info[:]

    report = run.verify(run.through(optimised.stripped, run.changed(exchange)), on_purpose=False)
    assert report.exit_code == 0, report.headline
    found = fates(report)
    assert {found[name] for name in ("linear", "linear_1", "softmax", "matmul")} == {"moved"}


def test_the_file_is_only_read(run: Run, tmp_path: Path):
    path = run.through(optimised.folded)
    before = path.read_bytes()
    run.verify(path)
    assert path.read_bytes() == before
