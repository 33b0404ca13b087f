"""Saved figures judged again with other limits; no model runs, torch and onnx are not needed.

Only verdicts that rest on a distance move, and only those that the saved limits explain: every
one is first judged with the report's own policy, and where that does not give what was saved,
something else had decided, and what was saved stays. The same holds of every link, and of the
report as a whole. What is discrete, missing, of another shape, empty or not finite, differences of
structure, contracts, goldens, replaced files and stages that stopped do not depend on a limit; so
does "ambiguous", unless the value now passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from exporter.config.schema import MOST_FACTOR
from exporter.core.errors import ConfigError
from exporter.flows.saved_culprits import culprits_of
from exporter.flows.saved_links import (
    NO_FIGURES,
    Policies,
    judge_link,
    judge_output,
    no_measurement,
)
from exporter.parity.exit_code import ExitDecision
from exporter.parity.status import severity, status_of
from exporter.parity.tolerance import WEIGHTS, LimitOverride, Policy
from exporter.report.assemble import concluded
from exporter.report.overall_verdict import decision_of
from exporter.report.schema import Report


def rejudge(report: Report, *, factor: float | None = None) -> Report:
    """Return a report with the verdicts that another factor gives.

    Args:
        report: as a run wrote it.
        factor: times float32 PyTorch's own error; ``None`` for the report's own, which must
            give the verdicts that were saved.

    Raises:
        ArtifactError: the report holds a figure that is no measurement.
        ConfigError: the factor is none that a limit may have.
    """
    saved = report.policy
    if factor is not None and factor > max(MOST_FACTOR, saved.factor):
        raise ConfigError(
            f"a factor of {factor:g} is above {MOST_FACTOR:g}: with it real faults pass",
            remedy="declare it in the pipeline with its reason (parity: {factor, reason}), and run",
        )
    own = policy_of_report(report)
    policies = Policies(own=own, asked=own if factor is None else replace(own, factor=factor))
    outputs = [judge_output(output, policies) for output in report.outputs]
    links = [judge_link(link, report, outputs, policies) for link in report.links]
    culprits = [culprit for link in links for culprit in culprits_of(link, report)]
    again = report.model_copy(
        update={
            "policy": saved.model_copy(update={"factor": policies.asked.factor}),
            "links": links,
            "outputs": outputs,
            "culprits": culprits,
            "notes": [*report.notes, f"judged again with factor {policies.asked.factor:g}"],
        }
    )
    return _with_verdict(report, again)


def policy_of_report(report: Report) -> Policy:
    """The policy that a run judged with.

    Raises:
        ArtifactError: an override in the report is none.
    """
    saved = report.policy
    return Policy(
        factor=saved.factor,
        precision=WEIGHTS.get(saved.precision, saved.precision),
        overrides=tuple(_override(item) for item in saved.overrides),
    )


def _with_verdict(report: Report, again: Report) -> Report:
    """The verdict of what was judged again; never better than what no part of it explains."""
    again, saved = concluded(again), status_of(report.verdict)
    if decision_of(report).status is not saved and severity(saved) > severity(again.verdict):
        note = "the saved verdict stays: it rests on what no figure of the report holds"
        update = {
            "verdict": saved.value,
            "exit_code": report.exit_code or ExitDecision(status=saved).exit_code,
            "notes": [*again.notes, note],
        }
        again = again.model_copy(update=update)
    same = _said(again) == _said(report) and again.culprits == report.culprits
    kept = again.verdict == saved and same
    return again.model_copy(update={"headline": report.headline}) if kept else again


def _said(report: Report) -> list[tuple[str, str]]:
    return [(link.verdict, link.reason) for link in report.links]


def _override(saved: Mapping[str, Any]) -> LimitOverride:
    """A saved override; raises ``ArtifactError`` for what is none."""
    try:
        return LimitOverride(pattern=saved["taps"], factor=saved["factor"], reason=saved["reason"])
    except NO_FIGURES as error:
        raise no_measurement(error) from error
