"""Saved figures with other limits: what moves, what stays, and that no model is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from exporter import cli
from exporter.core.errors import ArtifactError
from exporter.flows.judge import rejudge
from exporter.parity.compare import measure
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import judge
from exporter.report.comparison import (
    LayerRecord,
    LinkRecord,
    OutputRecord,
    TapRecord,
    VerdictRecord,
)
from exporter.report.schema import Report, write_report
from tests.support.reports import base

LAYERS = "layers: captured -> simplified"
OUTPUTS = "simplified -> deployed"


def figures(name: str, times: float, *, damage: float | None = None):
    """One value whose ONNX error is ``times`` float32 PyTorch's own."""
    draw = np.random.default_rng(3)
    truth = draw.standard_normal(4096)
    noise = 1e-5 * draw.standard_normal(4096)
    actual = truth + times * noise
    if damage is not None:
        actual[7] = damage
    return measure(
        name,
        truth=truth,
        reference=(truth + noise).astype(np.float32),
        actual=actual.astype(np.float32),
        role="output",
    )


def record(verdict) -> VerdictRecord:
    return VerdictRecord(
        verdict=verdict.status.value,
        who=verdict.who.value,
        ratio=verdict.ratio,
        limit=verdict.limit.max_abs if verdict.limit else None,
        strain=verdict.strain,
        reason=verdict.reason,
    )


def tap(name: str, local, propagated, factor: float) -> TapRecord:
    first, second = (judge(m, Policy(factor=factor)) for m in (local, propagated))
    return TapRecord(
        name=name,
        op="aten.linear.default",
        source="encoder.py:12",
        fate="compared",
        case="english",
        local=local.to_json(),
        propagated=propagated.to_json(),
        local_verdict=record(first),
        propagated_verdict=record(second),
        verdict=max(first.status, second.status, key=[Status.PASS, Status.FAIL].index).value,
    )


def saved(factor: float = 4.0, *, layer: float = 6.0, free: float = 1.0, output=None) -> Report:
    """A report with two layers (the second off by ``layer``) and one output."""
    taps = [
        tap("good", figures("good", 1.5), figures("good", 1.5), factor),
        tap("odd", figures("odd", layer), figures("odd", free), factor),
    ]
    layers = [
        LayerRecord(
            module=f"model.{item.name}",
            module_class="Linear",
            verdict=item.verdict,
            worst_local_strain=item.local_verdict.strain,
            worst_propagated_strain=item.propagated_verdict.strain,
            taps=[item],
        )
        for item in taps
    ]
    measured = output or figures("logits", 1.5)
    verdict = record(judge(measured, Policy(factor=factor)))
    failed = any(item.verdict == "fail" for item in taps)
    report = base(verdict="fail" if failed or verdict.verdict == "fail" else "pass")
    return report.model_copy(
        update={
            "policy": report.policy.model_copy(update={"factor": factor}),
            "contracts": [],
            "golden": [],
            "culprits": [],
            "links": [
                LinkRecord(
                    name=LAYERS,
                    expected="captured",
                    actual="simplified",
                    verdict="fail" if failed else "pass",
                    compared=2,
                    fused=0,
                    missing=0,
                    coverage=1.0,
                    layers=layers,
                ),
                LinkRecord(
                    name=OUTPUTS, expected="simplified", actual="deployed", verdict=verdict.verdict
                ),
            ],
            "outputs": [
                OutputRecord(
                    link=OUTPUTS,
                    case="english",
                    name="logits",
                    dtype="float32",
                    shape=[4096],
                    max_abs=None,
                    cosine=None,
                    mismatches=None,
                    measurement=measured.to_json(),
                    verdict=verdict,
                )
            ],
        }
    )


@pytest.mark.parametrize("layer", [1.0, 6.0])
def test_the_reports_own_factor_gives_the_saved_verdicts(layer):
    before = saved(layer=layer)
    after = rejudge(before)
    assert [link.verdict for link in after.links] == [link.verdict for link in before.links]
    assert after.links[0].layers == before.links[0].layers
    assert after.exit_code == before.exit_code


def test_a_wider_factor_passes_what_failed():
    before = saved(4.0)
    assert before.exit_code == 1
    after = rejudge(before, factor=8)
    assert (after.verdict, after.exit_code) == ("pass", 0)
    assert after.culprits == []
    assert after.policy.factor == 8
    assert "judged again with factor 8" in after.notes[-1]


def test_a_narrower_factor_fails_what_passed_and_names_the_layer():
    before = saved(8.0)
    assert before.exit_code == 0
    after = rejudge(before, factor=4)
    assert (after.verdict, after.exit_code) == ("fail", 1)
    (culprit,) = after.culprits
    assert (culprit.layer, culprit.tap, culprit.source) == ("model.odd", "odd", "encoder.py:12")
    assert culprit.limit == after.links[0].layers[1].taps[0].local_verdict.limit
    assert "model.odd" in after.headline


def test_layers_that_fail_are_named_the_worst_first_as_a_run_names_them():
    after = rejudge(saved(8.0), factor=1.2)
    assert [culprit.layer for culprit in after.culprits] == ["model.odd", "model.good"]
    strains = [layer.taps[0].local_verdict.strain for layer in after.links[0].layers]
    assert 1 < strains[0] < strains[1]


def test_when_no_layer_fails_by_itself_the_first_value_that_fails_is_named():
    after = rejudge(saved(8.0, layer=1.0, free=6.0), factor=4)
    assert [culprit.tap for culprit in after.culprits] == ["odd"]
    assert after.exit_code == 1


@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_what_is_not_finite_fails_whatever_the_factor(damage):
    before = saved(layer=1.0, output=figures("logits", 1.0, damage=damage))
    after = rejudge(before, factor=60)
    assert after.exit_code == 1
    assert after.links[1].verdict == "fail"


def test_a_value_of_another_shape_fails_whatever_the_factor():
    wrong = measure(
        "logits",
        truth=np.zeros((3, 1)),
        reference=np.zeros((3, 1), np.float32),
        actual=np.zeros((1, 3), np.float32),
        role="output",
    )
    assert rejudge(saved(layer=1.0, output=wrong), factor=60).exit_code == 1


def test_an_ambiguous_value_stays_so_unless_it_passes():
    before = saved(4.0)
    link = before.links[0]
    tap = link.layers[1].taps[0]
    for held in (link, link.layers[1], tap, tap.local_verdict, before):
        held.__dict__["verdict"] = "ambiguous"
    assert rejudge(before).links[0].verdict == "ambiguous"
    assert rejudge(before, factor=8).links[0].verdict == "pass"


def test_a_failed_contract_stays_failed():
    from exporter.report.schema import ContractRecord

    contract = ContractRecord(name="padding", side="onnx", verdict="fail")
    before = saved(layer=1.0).model_copy(update={"contracts": [contract]})
    assert rejudge(before, factor=60).exit_code == 1


def test_a_link_that_failed_for_another_reason_stays_failed():
    before = saved(layer=1.0)
    link = before.links[1].model_copy(update={"verdict": "fail", "reason": "writes to its input"})
    after = rejudge(before.model_copy(update={"links": [before.links[0], link]}), factor=60)
    assert after.links[1].reason == "writes to its input"
    assert after.exit_code == 1


def test_a_figure_that_is_no_measurement_is_the_users_problem():
    before = saved()
    before.outputs[0].measurement.clear()
    with pytest.raises(ArtifactError, match="no measurement"):
        rejudge(before)


def test_the_command_needs_no_model_and_returns_the_verdict(tmp_path, capsys):
    write_report(saved(4.0), tmp_path / "report.json")
    kept = (tmp_path / "report.json").read_bytes()
    assert cli.main(["judge", str(tmp_path)]) == 1
    assert cli.main(["judge", str(tmp_path / "report.json"), "--factor", "8"]) == 0
    assert (tmp_path / "report.json").read_bytes() == kept
    code = (
        "import sys\nfrom exporter.cli import main\n"
        f"code = main(['judge', {str(tmp_path)!r}, '--quiet'])\n"
        "print('HEAVY', {'torch', 'onnx', 'onnxruntime'} & set(sys.modules), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY set() 1" in done.stdout


def test_a_damaged_report_is_exit_2(tmp_path, capsys):
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"schema_version": "1"}))
    assert cli.main(["judge", str(path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_word_that_nobody_knows_is_no_bug():
    report = saved(layer=6.0)
    links = [
        link.model_copy(
            update={
                "layers": [
                    layer.model_copy(
                        update={
                            "taps": [
                                tap.model_copy(
                                    update={
                                        "local_verdict": tap.local_verdict
                                        and tap.local_verdict.model_copy(update={"who": "nobody"})
                                    }
                                )
                                for tap in layer.taps
                            ]
                        }
                    )
                    for layer in link.layers
                ]
            }
        )
        for link in report.links
    ]
    assert rejudge(report.model_copy(update={"links": links}), factor=3.0).exit_code == 1


@pytest.mark.parametrize("held", [{}, {"taps": "x"}, {"taps": "x", "factor": "y", "reason": "z"}])
def test_an_override_that_is_none_is_said(held):
    report = saved()
    policy = report.policy.model_copy(update={"overrides": [held]})
    with pytest.raises(ArtifactError, match="no measurement"):
        rejudge(report.model_copy(update={"policy": policy}), factor=3.0)
