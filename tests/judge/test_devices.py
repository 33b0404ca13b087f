"""What a failing deployment on a device comes from is found by running it in other ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays, Case, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.interpret.truth import Yardstick
from exporter.judge import devices
from exporter.judge.case_run import CaseRun
from exporter.judge.devices import device_records, policy_on
from exporter.judge.outputs import OutputResult, judge_outputs
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.report.comparison import CulpritRecord, LinkRecord
from exporter.report.deployments import cause_sentence, deployment_lines
from exporter.report.headline import headline_of
from tests.support import reports

TF32 = Deployment(provider="cuda", tf32=True)
FLOAT32 = Deployment(provider="cuda")
SPECS = (
    TensorSpec(name="y", dtype="float32", shape=(4,), axes=()),
    TensorSpec(name="tokens", dtype="int64", shape=(2,), axes=(), discrete=True),
)
TRUTH = np.array([1.0, 2.0, 3.0, 4.0])
GOOD = {"y": TRUTH.astype(np.float32), "tokens": np.array([3, 5])}
BAD = {"y": (1.01 * TRUTH).astype(np.float32), "tokens": np.array([3, 6])}


class FakeRun:
    """A file that is right, wrong or stops, as the functions below say."""

    def __init__(self, path: Path, deployment: Deployment):
        self.deployment = deployment

    def run(self, inputs: Arrays) -> Arrays:
        if stops(self.deployment):
            raise OnnxStoppedError("out of device memory")
        return GOOD if is_right(self.deployment) else BAD


def is_right(way: Deployment) -> bool:
    return way.provider == "cpu" or not way.tf32


def stops(way: Deployment) -> bool:
    return way.level == "disable"


def judge(run: CaseRun, way: Deployment, outputs: Arrays) -> list[OutputResult]:
    return judge_outputs(
        f"simplified -> {way.label()}",
        run.case,
        SPECS,
        truth=run.behind.truth,
        reference=GOOD,
        expected=GOOD,
        actual=outputs,
        policy=Policy(),
        places={},
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> CaseRun:
    monkeypatch.setattr(devices, "FileRun", FakeRun)

    def unknown(*_: object) -> None:
        raise RuntimeError("no profile")

    monkeypatch.setattr(devices, "placement", unknown)
    case = Case(name="one", inputs={}, origin="made")
    held = Yardstick(truth={"y": TRUTH, "tokens": GOOD["tokens"]}, reference=GOOD)
    return CaseRun(case=case, capture=held, behind=held)


def records(run: CaseRun, deployment: Deployment, outputs: Arrays):
    results = {deployment.label(): judge(run, deployment, outputs)}
    path = Path("model.onnx")
    return device_records(path, [Deployment(), deployment], [run], results, judge, lambda _: None)


def test_the_setting_that_makes_it_pass_is_the_cause(run: CaseRun):
    (held,) = records(run, TF32, BAD)
    assert held.cause == "TF32 off"
    assert held.changed == ["one: tokens"]
    assert [(way.way, way.passes) for way in held.ways] == [
        ("TF32 off", True),
        ("cuDNN's default algorithm", False),
        ("graph optimisation off", None),
        ("on the CPU", True),
    ]
    said = cause_sentence(held)
    assert said.startswith("arithmetic of the provider (TF32), not the file: TF32 off: passes")
    assert "not run (out of device memory)" in said


def test_without_a_way_that_helps_nothing_is_named(run: CaseRun, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), "is_right", lambda way: False)
    (held,) = records(run, TF32, BAD)
    assert held.cause is None
    assert cause_sentence(held).startswith("fails in every way that was tried")


def test_what_passes_is_not_run_again(run: CaseRun):
    (held,) = records(run, FLOAT32, GOOD)
    assert (held.ways, held.cause, cause_sentence(held)) == ([], None, "")
    # Where nodes ran is not known here, and said so rather than shown as none.
    assert deployment_lines([held]) == ["cuda/all: where its nodes ran is not known: no profile"]


def test_a_device_that_only_differs_from_the_cpu_is_named_as_the_provider(
    run: CaseRun, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(globals(), "is_right", lambda way: way.provider == "cpu")
    (held,) = records(run, FLOAT32, BAD)
    assert held.cause == "on the CPU"
    assert "the provider cuda, not the file" in cause_sentence(held)


def link(actual: str, verdict: str) -> LinkRecord:
    return LinkRecord(name=f"x -> {actual}", expected="x", actual=actual, verdict=verdict)


def culprit(stage: str) -> CulpritRecord:
    return CulpritRecord(
        link="l",
        stage=stage,
        layer="encoder.0",
        op="aten.linear",
        tap="t",
        source="",
        case=None,
        local_error=None,
        propagated_error=None,
        ratio=None,
        limit=None,
        who="onnx",
        reason="off",
    )


def said_of(links: list, culprits: list, held: list) -> str:
    report = reports.base(links=links, outputs=[], culprits=culprits, deployments=held)
    return headline_of(report)


def test_the_headline_names_the_device_and_no_stage_of_the_export(run: CaseRun):
    held = records(run, TF32, BAD)
    label = TF32.label()
    links = [link("exported", "pass"), link(label, "fail")]
    said = said_of(links, [culprit(label)], held)
    assert said.startswith(f"{label}: arithmetic of the provider (TF32), not the file")
    assert "first in layer 'encoder.0'" in said
    assert "ONNX is wrong" not in said


def test_what_the_cpu_has_wrong_comes_first(run: CaseRun):
    held = records(run, TF32, BAD)
    links = [link("exported", "fail"), link(TF32.label(), "fail")]
    assert said_of(links, [culprit("export")], held).startswith("export: layer")
    assert said_of(links, [], held).startswith("x -> exported")


def test_declared_tf32_has_the_limits_of_its_ten_bits():
    assert policy_on(Policy(), TF32).precision == "tf32"
    assert policy_on(Policy(), FLOAT32) == Policy()
    assert policy_on(Policy(precision="float16"), TF32).precision == "float16"
    case = Case(name="one", inputs={}, origin="made")
    slightly = {**GOOD, "y": (TRUTH * (1 + 2**-12)).astype(np.float32)}
    both = {"truth": {"y": TRUTH}, "reference": GOOD, "expected": GOOD}
    strict, wide = (
        judge_outputs(
            "l",
            case,
            SPECS[:1],
            **both,
            actual=slightly,
            policy=policy_on(Policy(), way),
            places={},
        )[0]
        for way in (FLOAT32, TF32)
    )
    assert strict.verdict.status is Status.FAIL
    assert wide.verdict.status is Status.PASS
