"""Wide limits: a factor, an override, a limit that is coarser than the values."""

from __future__ import annotations

import numpy as np

from exporter.config import load_pipeline
from exporter.core.errors import ExportVerifyError, exit_code
from exporter.flows.judge import rejudge
from exporter.parity.compare import measure
from exporter.parity.tolerance import LimitOverride, Policy
from exporter.parity.verdict import judge
from exporter.report.headline import headline_of
from exporter.report.overall_verdict import decided
from exporter.report.schema import Report
from tests.false_passes.way import Told, way
from tests.support.toy_project import YAML, project
from tests.test_rejudge import record, saved


def loaded(tmp_path, parity: str) -> Told:
    """What the pipeline's YAML is told at the door."""
    path = project(tmp_path, yaml=f"{YAML}parity: {parity}\n")
    try:
        pipeline = load_pipeline(path)
    except ExportVerifyError as error:
        return Told(exit_code=exit_code(error), text=str(error))
    return Told(exit_code=0, text=str(pipeline.parity))


@way("a factor of 1e12", says="4096")
def test_enormous_factor(tmp_path):
    return loaded(tmp_path, "{factor: 1.0e+12}")


@way("a factor of 1e12 with a reason", says="4096")
def test_enormous_factor_with_a_reason(tmp_path):
    return loaded(tmp_path, "{factor: 1.0e+12, reason: the model is loud}")


@way("a factor of 100 without a reason", says="above 64")
def test_wide_factor_without_a_reason(tmp_path):
    assert loaded(tmp_path / "twin", "{factor: 64}").exit_code == 0
    assert loaded(tmp_path / "other", "{factor: 100, reason: why}").exit_code == 0
    return loaded(tmp_path, "{factor: 100}")


@way("a factor of 100 whose reason is a blank", says="reason")
def test_wide_factor_with_a_blank_reason(tmp_path):
    return loaded(tmp_path, "{factor: 100, reason: '  '}")


@way("an override of everything with a factor of 1e12", says="4096")
def test_override_of_everything(tmp_path):
    return loaded(tmp_path, "{overrides: [{taps: '*', factor: 1.0e+12, reason: why}]}")


@way("judge with a factor of 1e12", says="above 64")
def test_judge_with_an_enormous_factor():
    assert rejudge(saved(4.0), factor=60).exit_code == 0
    try:
        report = rejudge(saved(4.0), factor=1e12)
    except ExportVerifyError as error:
        return Told(exit_code=exit_code(error), text=str(error))
    return Told(exit_code=report.exit_code, text=report.headline)


def output(values: np.ndarray, reference: np.ndarray, actual: np.ndarray, **more):
    """The verdict on one output."""
    measured = measure(
        "logits",
        truth=values,
        reference=reference.astype(np.float32),
        actual=actual.astype(np.float32),
        role="output",
        **more,
    )
    return measured, judge(measured, Policy())


def chain_of(measured, verdict) -> Report:
    """A report whose only output has this verdict."""
    before = saved(layer=1.0)
    held = before.outputs[0].model_copy(
        update={"measurement": measured.to_json(), "verdict": record(verdict)}
    )
    update = {"verdict": verdict.status.value, "reason": verdict.reason}
    links = [before.links[0], before.links[1].model_copy(update=update)]
    return decided(before.model_copy(update={"outputs": [held], "links": links}))


@way(
    "float32 itself is off by half of an output, so that any file is within its limit", says="weak"
)
def test_output_that_float32_does_not_know():
    draw = np.random.default_rng(0)
    values = draw.standard_normal(512)
    reference = values + 0.4 * draw.standard_normal(512)
    report = chain_of(*output(values, reference, np.zeros(512)))
    return Told(exit_code=report.exit_code, text=headline_of(report))


@way("an output cancels to noise, the file gives zeros", says="weak")
def test_output_that_cancels():
    draw = np.random.default_rng(0)
    values = 1e-9 * draw.standard_normal(512)
    reference = values + 1e-8 * draw.standard_normal(512)
    report = chain_of(*output(values, reference, np.zeros(512)))
    return Told(exit_code=report.exit_code, text=headline_of(report))


@way("a weak output passes when judged again with a wider factor", says="weak")
def test_weak_output_judged_again():
    draw = np.random.default_rng(0)
    values = draw.standard_normal(512)
    reference = values + 0.05 * draw.standard_normal(512)
    measured, verdict = output(values, reference, values + 0.1 * draw.standard_normal(512))
    before = chain_of(measured, verdict)
    assert before.exit_code == 0
    after = rejudge(before, factor=60)
    return Told(exit_code=after.exit_code, text=after.headline)


def test_probabilities_near_zero_are_no_weak_output():
    values = np.full(512, 1e-9)
    _, verdict = output(values, values, values + 1e-10, natural_scale=1.0)
    assert (verdict.status.value, verdict.weak) == ("pass", False)


def test_a_pass_with_wide_limits_says_so_in_its_headline():
    before = saved(layer=1.0)
    assert "weak" not in headline_of(before)
    policy = before.policy.model_copy(update={"factor": 100.0, "reason": "phases"})
    assert "weak: limits are 100 x PyTorch's own error (phases)" in headline_of(
        before.model_copy(update={"policy": policy})
    )
    rows = [{"taps": "*", "factor": 100.0, "reason": "why"}]
    policy = before.policy.model_copy(update={"overrides": rows})
    after = rejudge(before.model_copy(update={"policy": policy}))
    for item in after.links[0].layers:
        for tap in item.taps:
            tap.local_verdict.__dict__["override"] = "*"
    assert "weak: 2 of 2 values judged by overrides" in headline_of(after)
    narrow = [{"taps": "*", "factor": 2.0, "reason": "why"}]
    policy = before.policy.model_copy(update={"overrides": narrow})
    assert "overrides" not in headline_of(after.model_copy(update={"policy": policy}))


def test_an_override_is_kept_with_the_verdict_that_it_made():
    policy = Policy(overrides=(LimitOverride(pattern="*", factor=8, reason="why"),))
    draw = np.random.default_rng(0)
    values = draw.standard_normal(512)
    measured = measure(
        "y",
        truth=values,
        reference=values.astype(np.float32),
        actual=values.astype(np.float32),
        role="output",
    )
    from exporter.report.comparison import VerdictRecord

    assert VerdictRecord.of(judge(measured, policy)).override == "*"
