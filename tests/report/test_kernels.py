"""What a report says of kernels that lose digits: a finding where nothing fails, else a culprit."""

from __future__ import annotations

from typing import Any

from exporter.parity.exit_code import decide
from exporter.parity.status import Status, is_good, worst
from exporter.report.comparison import CulpritRecord, LinkRecord
from exporter.report.headline import headline_of
from exporter.report.kernels import kernel_sentence
from tests.support import reports


def culprit(**changes: object) -> CulpritRecord:
    facts: dict = {
        "link": "layers", "stage": "kernel", "layer": "model.norm", "op": "aten.group_norm.default",
        "tap": "group_norm", "source": "model.py:7", "case": "one", "local_error": 5.8e-4,
        "propagated_error": 5.8e-4, "ratio": 1000.0, "limit": 1e-5, "who": "kernel",
        "reason": "max error", "cause": "kernel", "engine": "onnxruntime in float64",
        "graph_error": 7.3e-12, "float32_error": 5.4e-7, "nodes": ["InstanceNormalization"],
        "provider": "cpu",
    }  # fmt: skip
    return CulpritRecord(**{**facts, **changes})


LINK = LinkRecord(name="layers", expected="captured", actual="simplified", verdict="pass")


def said_of(culprits: list[CulpritRecord], **parts: Any) -> str:
    return headline_of(reports.base(links=[LINK], outputs=[], culprits=culprits, **parts))


def test_the_sentence_has_both_errors_and_that_the_graph_is_right():
    said = kernel_sentence(culprit())
    assert said == (
        "kernel of onnxruntime on cpu: InstanceNormalization loses digits in layer 'model.norm',"
        " aten.group_norm.default at model.py:7: 0.00058 where float32 PyTorch has 5.4e-07; the"
        " graph is right: the same nodes in float64 agree to 7.3e-12"
    )


def test_a_kernel_s_culprit_blames_no_stage_and_counts_the_others():
    said = said_of([culprit(), culprit(layer="model.other")])
    assert said.startswith("kernel of onnxruntime on cpu") and said.endswith("(and 1 more)")
    assert "ONNX is wrong" not in said


def test_a_culprit_of_the_graph_is_said_as_before():
    said = said_of([culprit(stage="export", cause="graph", who="onnx")])
    assert said.startswith("export: layer 'model.norm'") and "ONNX is wrong" in said


def test_a_finding_is_told_with_a_pass():
    said = said_of([], findings=[culprit()])
    assert "all 1 links agree" in said and "finding: kernel of onnxruntime" in said


def test_a_finding_passes_and_is_more_than_a_pass():
    assert is_good(Status.FINDING)
    assert decide([(Status.FINDING, True)]).exit_code == 0
    assert worst([Status.PASS, Status.FINDING]) is Status.FINDING
    assert worst([Status.FINDING, Status.AMBIGUOUS]) is Status.AMBIGUOUS
    assert decide([(Status.FINDING, True), (Status.FAIL, True)]).exit_code == 1
