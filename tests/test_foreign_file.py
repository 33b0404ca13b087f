"""Files that somebody else exported: by what they are compared, and which layer is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from exporter.config import load_pipeline
from exporter.flows.verify import verify
from exporter.report.schema import Report
from tests.support.plain_export import plain_export
from tests.support.stages import Silent

PIPELINES = Path(__file__).resolve().parents[1] / "pipelines"
YAML = f"""
extends: {PIPELINES}/fsmn_vad_batch.yaml
name: short
lengths: null
cases:
  - name: noise
    random: {{waveform: {{kind: normal, seed: 5, scale: 0.1, shape: [2, 9600]}}}}
    inputs: {{waveform_lengths: [9600, 4000]}}
default_case: noise
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the pipeline, and the pipeline's own export once a file was judged."""
    made = tmp_path_factory.mktemp("foreign")
    (made / "short.yaml").write_text(YAML, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def judged(folder: Path) -> Callable[..., Report]:
    """Export with plain torch, judge."""

    def judge(name: str, **options: Any) -> Report:
        path = plain_export(folder / "short.yaml", folder / f"{name}.onnx", **options)
        return judge_file(folder, path)

    return judge


def judge_file(folder: Path, path: Path) -> Report:
    pipeline = load_pipeline(folder / "short.yaml")
    return verify(pipeline, onnx=path, output_dir=folder / "out", progress=Silent())


def taps_sentence(report: Report) -> str:
    found = [note for note in report.notes if "descend" in note]
    assert len(found) == 1
    return found[0]


def layers(report: Report) -> Any:
    return next(link for link in report.links if link.layers)


@pytest.mark.parametrize("optimize", [False, True])
def test_a_healthy_file_passes_and_its_layers_are_compared(judged: Any, optimize: bool):
    report = judged(f"healthy_{optimize}", optimize=optimize)
    assert report.exit_code == 0
    said = re.search(r"(\d+) of (\d+) values have name, module and op", taps_sentence(report))
    assert said is not None
    assert int(said[1]) > 70
    assert layers(report).compared >= int(said[1])
    assert not any(line.startswith("layers:") for line in report.not_checked)


def test_a_wrong_weight_is_found_in_its_layer(judged: Any):
    def change(module: nn.Module) -> None:
        weight = module.get_parameter("model.encoder.fsmn.2.affine.linear.weight")
        with torch.no_grad():
            weight[3, 5] *= 1.5

    report = judged("weight", change=change)
    assert report.exit_code == 1
    assert [c.layer for c in report.culprits] == ["model.encoder.fsmn.2.affine.linear"]


def test_a_layer_that_is_missing_is_named_although_the_names_behind_it_have_moved(judged: Any):
    def change(module: nn.Module) -> None:
        module.get_submodule("model.encoder.fsmn.1.relu").relu = nn.Identity()

    report = judged("no_relu", change=change)
    assert report.exit_code == 1
    assert report.culprits[0].layer == "model.encoder.fsmn.1.relu.relu"
    # The relus of the layers behind now carry other numbers; they are not taken for each other.
    by_name = {tap.name: tap.fate for layer in layers(report).layers for tap in layer.taps}
    assert by_name["relu_1"] == "compared"
    assert {by_name[f"relu_{n}"] for n in (2, 3, 4)} == {"fused"}


def stripped(folder: Path, name: str) -> Path:
    """The file of a name without what torch wrote onto its nodes."""
    path = folder / f"{name}.onnx"
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, path)
    return path


def test_without_metadata_names_that_numbers_bear_out_are_compared(judged: Any, folder: Path):
    judged("stripped")
    report = judge_file(folder, stripped(folder, "stripped"))
    assert report.exit_code == 0
    assert "says of no node where it comes from" in taps_sentence(report)
    assert "compared where numbers bear these out" in taps_sentence(report)
    assert layers(report).compared > 70


def test_a_fault_in_a_file_without_metadata_is_found_in_its_layer(judged: Any, folder: Path):
    def change(module: nn.Module) -> None:
        weight = module.get_parameter("model.encoder.fsmn.2.affine.linear.weight")
        with torch.no_grad():
            weight[3, 5] *= 1.5

    judged("stripped_weight", change=change)
    report = judge_file(folder, stripped(folder, "stripped_weight"))
    assert report.exit_code == 1
    assert [c.layer for c in report.culprits] == ["model.encoder.fsmn.2.affine.linear"]


def test_a_missing_layer_does_not_pass_because_names_have_moved(judged: Any, folder: Path):
    """Which layer is named is no promise here: every relu behind is called as the one before."""

    def change(module: nn.Module) -> None:
        module.get_submodule("model.encoder.fsmn.1.relu").relu = nn.Identity()

    judged("stripped_relu", change=change)
    report = judge_file(folder, stripped(folder, "stripped_relu"))
    assert report.exit_code == 1
    assert report.culprits


def renamed(folder: Path, name: str) -> Path:
    """The file of a name with neither metadata nor names."""
    path = stripped(folder, name)
    model = onnx.load(path)
    ends = {value.name for value in [*model.graph.input, *model.graph.output]}
    names = {
        name: f"t{position}_{number}"
        for position, node in enumerate(model.graph.node)
        for number, name in enumerate(node.output)
        if name and name not in ends
    }
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del model.graph.value_info[:]
    onnx.save(model, path)
    return path


def joined_sentence(report: Report) -> str:
    found = [note for note in report.notes if "joined with this pipeline's own file" in note]
    assert len(found) == 1
    return found[0]


def test_without_metadata_and_names_values_are_joined_by_what_they_compute(
    judged: Any, folder: Path
):
    judged("renamed")
    report = judge_file(folder, renamed(folder, "renamed"))
    assert report.exit_code == 0
    said = re.search(r"(\d+) of its (\d+) floating values are joined", joined_sentence(report))
    assert said is not None
    assert int(said[1]) >= 0.8 * int(said[2])
    assert "by structure" in joined_sentence(report)
    assert layers(report).compared > 50
    assert not any(line.startswith("layers:") for line in report.not_checked)


def test_a_fault_in_a_file_without_names_is_found_in_its_layer(judged: Any, folder: Path):
    def change(module: nn.Module) -> None:
        weight = module.get_parameter("model.encoder.fsmn.2.affine.linear.weight")
        with torch.no_grad():
            weight[3, 5] *= 1.5

    judged("renamed_weight", change=change)
    report = judge_file(folder, renamed(folder, "renamed_weight"))
    assert report.exit_code == 1
    assert report.culprits[0].layer == "model.encoder.fsmn.2.affine.linear"


def test_the_pipelines_own_file_is_compared_by_name(folder: Path, judged: Any):
    judged("own")
    report = judge_file(folder, folder / "out" / "verify" / "reference_torch" / "model.onnx")
    assert report.exit_code == 0
    assert "descends from this pipeline's export" in taps_sentence(report)
