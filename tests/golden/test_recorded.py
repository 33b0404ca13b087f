"""The goldens of this repository: whole, small, of today's pipelines, and passed by their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config import load_pipeline
from exporter.golden.check import check_golden
from exporter.golden.outcome import GOOD, State
from exporter.golden.store import exists, golden_bytes, read_golden
from tests.faults.catalogue import GRAPH_FAULTS
from tests.golden.faulty import FOLDER, Bench
from tests.support.tiny_export import TINY, Export, export_tiny
from tests.support.tiny_run import TinyRun

ROOT = TINY.parents[1]
PIPELINES = sorted((ROOT / "pipelines").glob("*.yaml"))
TINY_BYTES, FULL_BYTES = 1 << 20, 20 << 20
# Faults that no number shows are among them: the last three.
SAMPLE = (
    "lstm_state_not_reset",
    "threshold_changed",
    "cut_one_millisecond_late",
    "preemphasis_of_095",
    "lfr_clamp_off_by_one",
    "weight_in_int8",
    "residual_dropped",
    "softmax_over_queries",
    "epsilon_of_a_deep_norm",
    "one_weight_element_in_float16",
    "dropout_active",
)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_recorded_golden_is_whole_small_and_of_this_pipeline(path: Path):
    folder = ROOT / "golden" / path.stem
    pipeline = load_pipeline(path)
    if not exists(folder):
        assert not pipeline.name.endswith("_tiny"), f"record the golden of {path.name}"
        return
    golden = read_golden(folder)
    assert golden.pipeline == pipeline.name
    assert golden.graph_digest == pipeline.graph_digest, "the pipeline changed: record it again"
    assert golden.judged["verdict"] == "pass" and golden.reason
    assert {link["verdict"] for link in golden.judged["links"]} == {"pass"}
    recorded = {case.name for case in golden.cases} | set(golden.left_out)
    assert recorded == {case.name for case in pipeline.cases}
    limit = TINY_BYTES if pipeline.name.endswith("_tiny") else FULL_BYTES
    assert golden_bytes(folder) < limit


def test_nothing_lies_in_a_golden_that_is_not_part_of_it():
    for folder in (path for path in (ROOT / "golden").iterdir() if exists(path)):
        assert sum(file.stat().st_size for file in folder.iterdir()) == golden_bytes(folder)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_a_new_export_is_what_was_recorded(tiny_run: TinyRun, threads: int | None):
    cases = None if threads is None else ["english", "silence"]
    outcome = check_golden(
        load_pipeline(TINY), FOLDER, tiny_run.model_path, threads=threads, cases=cases
    )
    assert outcome.exit_code == 0, outcome
    if not outcome.environment:
        assert outcome.structure == ()
        assert outcome.numbers is State.SAME or threads is not None
    assert outcome.state in GOOD
    assert all(case.lost < case.compared for case in outcome.cases)


@pytest.fixture(scope="module")
def clean() -> Export:
    return export_tiny()


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_a_fault_is_caught_with_its_layer_first(clean: Export, bench: Bench, name: str):
    (fault,) = [fault for fault in GRAPH_FAULTS if fault.name == name]
    found = bench.check(fault.apply(clean.model, clean.program), fault)
    assert found.caught and found.right, found
    assert found.right_by_numbers == (name not in SAMPLE[-3:])
