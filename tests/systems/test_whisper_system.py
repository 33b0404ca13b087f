"""Whisper in two graphs: right as it is exported, and every planted fault found in its graph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.config.load_system import load_system
from exporter.flows.open_system import bench_of
from exporter.flows.run_system import run_system
from exporter.parity.status import Status
from exporter.report.progress import Progress
from exporter.systems.case_inputs import system_cases
from exporter.systems.judge_case import JudgedCase, judge_case
from tests.support.planted_systems import (
    OPTIONS,
    PLANTED,
    cache_one_place_off,
    changed,
    failing,
    faulty,
    position_offset,
    weights_of,
    yaml_of,
)

pytestmark = pytest.mark.slow
YAML = yaml_of("whisper_tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("whisper")
    report = run_system(YAML, OPTIONS, output_dir=found)
    assert (report.verdict, report.exit_code) == ("pass", 0), report.headline
    return found


def judged(
    folder: Path,
    files: dict[str, Path] | None = None,
    driver: dict[str, object] | None = None,
    case: str = "noise_1",
    empty: tuple[str, ...] = (),
) -> JudgedCase:
    """The graphs of a finished run under a driver, with other files in place of some of them."""
    system = load_system(YAML, trust=True)
    if driver is not None:
        system = system.model_copy(update={"driver": system.driver.model_copy(update=driver)})
        system = system.with_pipelines(load_system(YAML, trust=True).pipelines)
    cases = tuple(held.model_copy(update={"expect_empty": empty}) for held in system.cases)
    system = system.model_copy(update={"cases": cases}).with_pipelines(system.pipelines)
    bench = bench_of(system, OPTIONS, folder, files or {}, Progress(quiet=True))
    (loaded,) = system_cases(system, bench.graphs, (case,))
    return judge_case(bench, loaded)


def test_the_report_says_what_each_graph_and_all_of_them_showed(folder):
    report = json.loads((folder / "system.json").read_text())
    assert [(g["name"], g["verdict"], g["calls"] > 0) for g in report["graphs"]] == [
        ("encoder", "pass", True),
        ("decoder", "pass", True),
    ]
    for graph in report["graphs"]:
        assert (folder / graph["folder"] / "report.json").is_file()
    assert {held["case"] for held in report["results"]} == {"noise_1", "noise_2"}
    assert all(held["tokens"] == held["onnx_tokens"] != [] for held in report["results"])
    assert report["token_error_rate"] == 0.0
    links = {(c["graph"], c["link"].split(" -> ")[0]) for c in report["calls"]}
    assert links == {(g, end) for g in ("encoder", "decoder") for end in ("eager", "captured")}
    assert "PASS" in (folder / "system.md").read_text()


def test_a_beam_with_a_penalty_agrees_too(folder):
    found = judged(folder, driver={"beams": 3, "length_penalty": 0.6})
    assert [r.verdict.verdict for r in found.results] == ["pass"]
    assert not failing(found)


@pytest.mark.parametrize(
    "held", [p for p in PLANTED if p.system == "whisper_tiny"], ids=lambda held: held.words
)
def test_a_planted_fault_is_found_in_its_graph(folder, tmp_path, held):
    found = judged(folder, {held.graph: faulty(folder, held, tmp_path)})
    assert failing(found) == {held.graph}
    layers = {c.layer for c in found.calls if c.verdict.verdict == Status.FAIL.value}
    assert layers - {""}
    if held.plant is cache_one_place_off:  # the first call has an empty cache: nothing to see
        assert all(c.worst_call > 0 for c in found.calls if c.verdict.verdict == "fail")


def test_other_tokens_are_shown_with_the_margin_of_the_first(folder, tmp_path):
    model = onnx.load(folder / "decoder" / "model.onnx")
    position_offset(model)
    onnx.save(model, tmp_path / "faulty.onnx")
    (result,) = judged(folder, {"decoder": tmp_path / "faulty.onnx"}).results
    assert result.verdict.verdict == "fail"
    assert result.tokens != result.onnx_tokens
    (difference,) = result.differences
    assert not difference.tie and difference.margin > difference.noise
    assert difference.graph == "decoder"
    assert result.errors[0].rate > 0 and "HYP" in result.errors[0].alignment


def test_a_file_of_nan_is_never_green(folder, tmp_path):
    model = onnx.load(folder / "decoder" / "model.onnx")
    held = weights_of(model, "model.decoder.embed_positions.weight")
    changed(held, lambda table: table * np.float32(np.nan))
    onnx.save(model, tmp_path / "faulty.onnx")
    found = judged(folder, {"decoder": tmp_path / "faulty.onnx"})
    assert failing(found) == {"decoder"}
    assert [r.verdict.verdict for r in found.results] == ["fail"]


def test_nothing_said_on_both_sides_is_not_green(folder):
    others = tuple(token for token in range(60) if token != 2)
    found = judged(folder, driver={"begin_suppress": others})
    (result,) = found.results
    assert result.tokens == result.onnx_tokens == []
    assert result.verdict.verdict == "not run"


def test_nothing_said_as_the_case_declares_is_counted_apart(folder):
    others = tuple(token for token in range(60) if token != 2)
    found = judged(folder, driver={"begin_suppress": others}, empty=("tokens",))
    assert [held.verdict.verdict for held in found.results] == ["empty as declared"]
    loud = judged(folder, empty=("tokens",))
    assert [held.verdict.verdict for held in loud.results] == ["fail"]
