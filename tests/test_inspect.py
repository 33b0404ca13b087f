"""``export-verify inspect``: what a file takes, and whether its certificate still holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from exporter.cli import main
from exporter.core.artifact import Artifact
from exporter.graph.certificate import certify
from exporter.report.digest import report_digest
from exporter.report.schema import write_report
from tests.support import reports
from tests.support.files import write_model

CHOICES = json.dumps({"language": {"en": 4, "zh": 3}})
FACTS = {
    "verdict": "pass",
    "headline": "all 5 links agree",
    "pipeline": "tiny",
    "limits": '{"factor":4.0,"precision":"float32","floor_max_ulps":6,"floor_rms_ulps":4,'
    '"overrides":[],"max_ambiguous":0}',
    "taps": '{"compared":377,"fused":80,"missing":2}',
    "contracts": '{"dtype, torch":"pass","shapes, onnx":"pass","padding, onnx":"not applicable"}',
    "not_checked": '["the moon"]',
    "golden": "none recorded",
    "versions": '{"onnx":"1.23.0"}',
}


def make(folder: Path, metadata: dict[str, str] | None = None) -> Artifact:
    values = [
        helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["num_samples"]),
        helper.make_tensor_value_info("language", TensorProto.INT64, []),
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["num_samples", 2])
    nodes = [
        helper.make_node("Cast", ["language"], ["l"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["waveform", "l"], ["a"]),
        helper.make_node("Unsqueeze", ["a", "one"], ["u"]),
        helper.make_node("Mul", ["u", "w"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([1]), "one"),
        numpy_helper.from_array(np.ones((1, 2), np.float32), "w"),
    ]
    graph = helper.make_graph(nodes, "g", values, [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    held = {"export_verify.input_choices": CHOICES} if metadata is None else metadata
    return write_model(model, folder / "model.onnx", external_data=False, metadata=held)


@pytest.fixture
def certified(tmp_path: Path) -> Path:
    artifact = make(tmp_path)
    certify(artifact, FACTS)
    return artifact.path


def inspected(path: Path, capsys: Any, *options: str) -> tuple[int, str]:
    code = main(["inspect", str(path), *options])
    return code, capsys.readouterr().out


def test_it_prints_the_interface_the_choices_and_the_certificate(certified: Path, capsys: Any):
    code, text = inspected(certified, capsys)
    assert code == 0
    assert text.splitlines()[0] == f"{certified}: certified PASS, and unchanged since"
    for line in (
        "opset ai.onnx 18; IR version 10",
        "4 nodes, 2 initialisers of 16 B",
        "waveform  float32  [num_samples]",
        "language  int64    []  one of en=4, zh=3",
        "y  float32  [num_samples, 2]",
        "num_samples: waveform axis 0, y axis 0",
        "4.0 times what float32 costs PyTorch, at least 6 (largest) and 4 (rms) roundings",
        "377 compared, 80 fused, 2 missing",
        "2 pass, 1 not applicable",
        "not checked   the moon",
        "none recorded",
        ": as certified",
    ):
        assert line in text


def test_json_holds_the_same(certified: Path, capsys: Any):
    code, text = inspected(certified, capsys, "--format", "json")
    held = json.loads(text)
    assert code == 0
    assert (held["state"], held["verdict"], held["weights_intact"]) == ("intact", "pass", True)
    assert held["inputs"][1]["choices"] == {"en": 4, "zh": 3}
    assert held["outputs"][0]["shape"] == ["num_samples", 2]
    assert held["certificate"]["pipeline"] == "tiny"


def test_a_changed_file_exits_1_and_its_verdict_no_longer_counts(certified: Path, capsys: Any):
    model = onnx.load(certified)
    model.graph.initializer[1].raw_data = np.array([1, 2], np.float32).tobytes()
    onnx.save(model, certified)
    code, text = inspected(certified, capsys)
    assert code == 1
    assert "CHANGED after it was certified" in text.splitlines()[0]
    assert "PASS" not in text.splitlines()[0]
    assert "changed: the weights" in text
    assert "NOT those that were certified" in text
    _, text = inspected(certified, capsys, "--format", "json")
    assert json.loads(text)["verdict"] == ""


@pytest.mark.parametrize("verdict", ["fail", "not run", "ambiguous", "", "PASS", "pass "])
def test_another_verdict_than_pass_exits_1(tmp_path: Path, capsys: Any, verdict: str):
    artifact = make(tmp_path)
    certify(artifact, {**FACTS, "verdict": verdict})
    assert inspected(artifact.path, capsys)[0] == 1


def test_a_file_without_certificate_says_so(tmp_path: Path, capsys: Any):
    path = make(tmp_path).path
    code, text = inspected(path, capsys)
    assert code == 0
    assert "not certified" in text and "PASS" not in text
    assert inspected(path, capsys, "--require-certificate")[0] == 1


@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(100)])
def test_what_cannot_be_read_exits_2(tmp_path: Path, capsys: Any, content: bytes):
    (tmp_path / "m.onnx").write_bytes(content)
    for path in (tmp_path / "m.onnx", tmp_path / "nowhere.onnx", tmp_path):
        assert main(["inspect", str(path)]) == 2
        assert "error:" in capsys.readouterr().err


def test_it_says_whether_the_report_beside_it_is_the_certified_one(tmp_path: Path, capsys: Any):
    report = reports.passed()
    artifact = make(tmp_path)
    certify(artifact, {**FACTS, "report_digest": report_digest(report)})
    write_report(report.model_copy(update={"timings": {"total": 3.0}}), tmp_path / "report.json")
    assert "report.json beside it is that one" in inspected(artifact.path, capsys)[1]
    write_report(reports.layer_fail(), tmp_path / "report.json")
    assert "report.json beside it is another one" in inspected(artifact.path, capsys)[1]
    (tmp_path / "report.json").write_text("{")
    assert "cannot be read" in inspected(artifact.path, capsys)[1]


HOSTILE = st.one_of(st.sampled_from(reports.HOSTILE), st.text(max_size=80), st.just("[" * 5000))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(HOSTILE, HOSTILE, max_size=4), HOSTILE)
def test_hostile_metadata_is_shown_and_does_nothing(
    tmp_path: Path, capsys: Any, metadata: dict[str, str], text: str
):
    metadata = {k: v for k, v in metadata.items() if not k.startswith("export_verify.certificate.")}
    metadata["export_verify.input_choices"] = text
    artifact = make(tmp_path, metadata)
    certify(artifact, dict.fromkeys((*FACTS, "report_digest", "cases"), text))
    code, shown = inspected(artifact.path, capsys)
    assert code == (0 if text == "pass" else 1)
    assert all(c.isprintable() or c == "\n" for c in shown)
    json.loads(inspected(artifact.path, capsys, "--format", "json")[1])


def test_huge_metadata_is_cut(tmp_path: Path, capsys: Any):
    metadata = {f"key {i}": "v" for i in range(3000)}
    artifact = make(tmp_path, {**metadata, "long": "\x1b" * 20_000_000})
    certify(artifact, {**FACTS, "limits": "{" * 3_000_000, "not_checked": "[" * 3_000_000})
    code, text = inspected(artifact.path, capsys)
    assert code == 0
    assert len(text) < 40_000
    assert "more keys" in text and "\x1b" not in text


def test_it_needs_neither_torch_nor_onnxruntime(certified: Path):
    code = (
        "import sys; from exporter.cli import main; assert main(sys.argv[1:]) == 0;"
        "heavy = {'torch', 'onnxruntime', 'onnxsim', 'onnxscript'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", str(certified)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
