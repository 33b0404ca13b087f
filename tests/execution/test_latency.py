"""Time and memory of a file, in turns and in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from exporter.cases.audio_input import seconds_of
from exporter.core.tensors import Axis, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.execution.latency import in_turns, measure_latency
from exporter.report.digest import report_digest
from exporter.report.html import render_html
from exporter.report.latency import latency_lines
from exporter.report.markdown import render_markdown
from exporter.report.schema import LatencyRecord
from tests.support.reports import passed


def test_runs_take_turns_and_end_at_the_limit_of_time():
    order: list[str] = []
    now = [0.0]

    def run(name: str, cost: float):
        def done() -> None:
            order.append(name)
            now[0] += cost

        return done

    runs = {"a": run("a", 1.0), "b": run("b", 2.0)}
    taken = in_turns(runs, rounds=5, most_seconds=5.0, clock=lambda: now[0])
    assert order == ["a", "b", "a", "b"] and taken == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    slow = in_turns({"a": run("a", 60.0)}, rounds=5, most_seconds=5.0, clock=lambda: now[0])
    assert slow == {"a": [60.0]}  # one round is always run


def test_a_file_is_measured_in_a_process_of_its_own(tmp_path: Path):
    path = tmp_path / "model.onnx"
    ends = [helper.make_tensor_value_info(name, 1, ["batch", 64]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    ways = (Deployment(threads=1), Deployment(threads=1, level="basic"))
    found = measure_latency(path, ways, {"x": np.ones((3, 64), np.float32)})
    assert found is not None and [held.deployment for held in found] == [w.label() for w in ways]
    for held in found:
        assert held.rounds == 5 and 0 < held.least <= held.seconds and held.load_seconds > 0
        assert held.memory_bytes is None or held.memory_bytes >= 0
    assert measure_latency(path, ways, {"x": np.ones((3, 63), np.float32)}) is None
    path.write_bytes(b"no model")
    assert measure_latency(path, ways, {}) is None


def test_seconds_are_those_of_all_rows_and_none_where_there_is_no_sound():
    wave = TensorSpec.of("waveform", "float32", Axis(name="batch"), Axis(name="num_samples"))
    inputs = {"waveform": np.zeros((2, 8000), np.float32)}
    assert seconds_of(inputs, {"waveform": wave}, 16000) == 1.0
    tokens = TensorSpec.of("tokens", "int64", Axis(name="num_samples"))
    assert seconds_of({"tokens": np.zeros(5, np.int64)}, {"tokens": tokens}, 16000) is None


def test_a_report_shows_it_and_its_digest_does_not_know_it():
    row = LatencyRecord(
        deployment="cpu/all/2 thread(s)",
        case="english",
        rounds=5,
        seconds=0.5,
        least=0.4,
        load_seconds=0.1,
        memory_bytes=10**9,
        audio_seconds=10.0,
    )
    report = passed().model_copy(update={"latency": [row]})
    (line,) = latency_lines(report)
    assert (
        "real-time factor 0.05" in line
        and "1.0 GB of memory" in line
        and "5 rounds in turns" in line
    )
    assert "real-time factor" in render_html(report) and "real" in render_markdown(report)
    assert report_digest(report) == report_digest(passed())
    assert "latency" not in passed().model_dump_json()
    silent = row.model_copy(update={"audio_seconds": None, "memory_bytes": None, "rounds": 1})
    (line,) = latency_lines(report.model_copy(update={"latency": [silent]}))
    assert "real-time" not in line and "memory" not in line and "1 round" in line
