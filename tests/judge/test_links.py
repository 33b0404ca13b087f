"""The comparisons of a run are one list of values; what kind they are is no part of their name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from exporter.core.errors import StageError
from exporter.execution.deployment import Deployment
from exporter.flows.stopped import ONNXRUNTIME, guilty_link
from exporter.judge.links import Link, planned_links
from exporter.report.comparison import LAYERS, OWN_STATE


def pipeline(*, simplify: bool = True) -> Any:
    return SimpleNamespace(export=SimpleNamespace(simplify=simplify))


def test_links_of_a_run_in_the_order_of_its_report():
    basic = Deployment(level="basic", threads=1)
    assert [link.name for link in planned_links(True, [basic])] == [
        "eager -> captured",
        "captured -> exported",
        "exported -> simplified",
        "layers: captured -> simplified",
        f"simplified -> {basic.label()}",
    ]
    *_, layers, deployed = planned_links(False, [basic])
    assert (layers.kind, layers.actual) == (LAYERS, "exported")
    assert (deployed.level, deployed.expected) == ("basic", "exported")


def test_a_stream_on_its_own_state_is_named_for_where_it_runs():
    assert Link(expected="captured", actual="cpu/all", kind=OWN_STATE).name == "own state: cpu/all"


@pytest.mark.parametrize(
    ("stage", "file", "detail", "guilty"),
    [
        ("capture", "", "no", "captured"),
        ("export", "", "no", "exported"),
        ("simplify", "", "no", "simplified"),
        (ONNXRUNTIME, "/out/exported.onnx", "it is refused", "exported"),
        (ONNXRUNTIME, "/out/model.onnx", "it is refused", "simplified"),
        # A folder that is called like the file, and a message that names it, decide nothing.
        (ONNXRUNTIME, "/exported.onnx/model.onnx", "/exported.onnx/model.onnx: no", "simplified"),
        ("simplify", "", "onnxsim failed on exported.onnx", "simplified"),
    ],
)
def test_the_guilty_link_follows_from_stage_and_file(
    stage: str, file: str, detail: str, guilty: str
):
    assert guilty_link(pipeline(), StageError(stage, detail, file=file)).actual == guilty
