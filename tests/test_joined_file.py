"""Files of another exporter, and with no names at all: joined by what they compute, then judged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.report.schema import Report
from tests.support import lowered
from tests.support import other_tools as tools


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("joined")
    lowered.made(made)
    tools.legacy(made)
    return made


def compared(report: Report) -> int:
    return next(link.compared or 0 for link in report.links if link.layers)


def share(report: Report) -> float:
    note = next(note for note in report.notes if "are joined with" in note)
    found = re.search(r"(\d+) of its (\d+) floating values", note)
    assert found is not None
    return int(found[1]) / int(found[2])


def judged(folder: Path, file: Path) -> Report:
    return lowered.judged(folder, file, "float32")


@pytest.mark.parametrize("tool", [None, tools.renamed, tools.converted])
def test_a_healthy_file_is_compared_inside(folder: Path, tool):
    legacy = folder / "legacy.onnx"
    report = judged(folder, legacy if tool is None else tool(legacy))
    assert report.exit_code == 0, report.headline
    assert share(report) >= 0.8
    assert compared(report) > 50


FAULTS = {
    tools.one_weight: "blocks.0.inner",
    tools.epsilon: "blocks.0.norm_forward",
    tools.mask: "model",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found_in_its_layer(folder: Path, fault: tools.Fault):
    report = judged(folder, tools.faulty(tools.renamed(folder / "legacy.onnx"), fault))
    assert report.exit_code == 1
    assert FAULTS[fault] in report.culprits[0].layer
    assert compared(report) > 50


def test_a_lowered_file_without_names_is_compared_inside(folder: Path):
    source = folder / "legacy.onnx"
    lowered.to_dynamic(source, folder / "dynamic.onnx")
    report = lowered.judged(folder, tools.renamed(folder / "dynamic.onnx"), "int8_weights")
    assert report.exit_code == 0, report.headline
    assert share(report) >= 0.8
    assert compared(report) > 50
