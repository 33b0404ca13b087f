"""Where nodes ran, from a profile of onnxruntime's."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from exporter.execution.deployment import Deployment
from exporter.execution.placement import placement, read_profile
from tests.support.toys import mixed, mixed_case


def event(name: str, provider: str, index: str, duration: int, op: str = "Add") -> dict:
    args = {"provider": provider, "node_index": index, "op_name": op}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": duration, "args": args}


def test_nodes_are_counted_where_they_ran_and_copies_apart():
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    events = [
        {"cat": "Session", "name": "model_run", "dur": 9},
        event("a", cuda, "0", 900_000),
        event("a", cuda, "0", 3_000_000),
        event("b", cpu, "1", 1_000_000),
        event("m", cuda, "2", 0, "MemcpyToHost"),
    ]
    found = read_profile(events)
    assert found.nodes == {"cuda": 1, "cpu": 1}
    assert found.copies == {"MemcpyToHost": 1}
    assert found.share("cuda") == pytest.approx(0.75)
    assert read_profile([]).share("cuda") is None


def test_the_profile_of_a_real_session_names_every_node(tmp_path: Path):
    model = mixed().model
    onnx.save(model, tmp_path / "m.onnx")
    way = Deployment(threads=1, level="disable")
    found = placement(tmp_path / "m.onnx", way, mixed_case().inputs)
    constants = sum(node.op_type == "Constant" for node in model.graph.node)
    assert found.nodes == {"cpu": len(model.graph.node) - constants}
    assert not found.copies
