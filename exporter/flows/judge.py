"""Saved figures judged again with other limits; no model runs, torch and onnx are not needed.

Only verdicts that rest on a distance move, and only those that the saved limits explain: every
one is first judged with the report's own policy, and where that does not give what was saved,
something else had decided, and what was saved stays. The same holds of every link, and of the
report as a whole. What is discrete, missing, of another shape, empty or not finite, differences of
structure, contracts, goldens, replaced files and stages that stopped do not depend on a limit; so
does "ambiguous", unless the value now passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from exporter.config.schema import MOST_FACTOR
from exporter.core.errors import ArtifactError, ConfigError
from exporter.parity.exit_code import Decision
from exporter.parity.measurement import Measurement
from exporter.parity.nodes_in_float64 import Cause
from exporter.parity.rollup import Coverage, Rollup, link_verdict, rollup
from exporter.parity.status import EXCUSED, Status, Who, severity, status_of, worst
from exporter.parity.tolerance import Override, Policy
from exporter.parity.verdict import Verdict, judge
from exporter.report.assemble import concluded
from exporter.report.comparison import (
    CulpritRecord,
    LayerRecord,
    LinkRecord,
    OutputRecord,
    TapRecord,
    VerdictRecord,
)
from exporter.report.overall_verdict import decision_of
from exporter.report.schema import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policies:
    """The report's own limits, and those that are asked for."""

    own: Policy
    asked: Policy


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
    own = Policy(
        factor=saved.factor,
        precision="int8" if saved.precision == "int8_weights" else saved.precision,
        overrides=tuple(_override(item) for item in saved.overrides),
    )
    policies = _Policies(own=own, asked=own if factor is None else replace(own, factor=factor))
    outputs = [_output(output, policies) for output in report.outputs]
    links = [_link(link, report, outputs, policies) for link in report.links]
    culprits = [culprit for link in links for culprit in _culprits(link, report)]
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


def _with_verdict(report: Report, again: Report) -> Report:
    """The verdict of what was judged again; never better than what no part of it explains."""
    again, saved = concluded(again), status_of(report.verdict)
    if decision_of(report).status is not saved and severity(saved) > severity(again.verdict):
        note = "the saved verdict stays: it rests on what no figure of the report holds"
        update = {
            "verdict": saved.value,
            "exit_code": report.exit_code or Decision(status=saved).exit_code,
            "notes": [*again.notes, note],
        }
        again = again.model_copy(update=update)
    same = _said(again) == _said(report) and again.culprits == report.culprits
    kept = again.verdict == saved and same
    return again.model_copy(update={"headline": report.headline}) if kept else again


def _said(report: Report) -> list[tuple[str, str]]:
    return [(link.verdict, link.reason) for link in report.links]


def _link(
    link: LinkRecord, report: Report, outputs: list[OutputRecord], policies: _Policies
) -> LinkRecord:
    if link.layers:
        return _layer_link(link, policies, report.policy.min_coverage)
    before = [output for output in report.outputs if output.link == link.name]
    return _output_link(link, before, [held for held in outputs if held.link == link.name])


def _verdict(
    saved: VerdictRecord, measurement: Mapping[str, Any], policies: _Policies, layer: str = ""
) -> VerdictRecord:
    if saved.strain is None:
        return saved
    held = _measured(measurement)
    try:
        before = judge(held, policies.own, layer=layer)
        again = judge(held, policies.asked, layer=layer)
    except _NO_FIGURES as error:
        raise _no_measurement(error) from error
    if again == before:
        return saved  # what was said beside the figures stays, such as graph or kernel
    # A value behind an ambiguous decision, or a kernel's loss, is out of its limit and excused.
    excused = status_of(saved.verdict) in EXCUSED and before.status is Status.FAIL
    if before.status != saved.verdict and not excused:
        return saved
    if excused and again.status is not Status.PASS:
        return saved
    return VerdictRecord(
        verdict=again.status.value,
        who=again.who.value,
        ratio=again.ratio,
        limit=again.limit.max_abs if again.limit else None,
        strain=again.strain,
        reason=again.reason,
        weak=again.weak,
        override=again.limit.override.pattern if again.limit and again.limit.override else None,
    )


def _output(output: OutputRecord, policies: _Policies) -> OutputRecord:
    again = _verdict(output.verdict, output.measurement, policies, output.layer)
    return output.model_copy(update={"verdict": again})


def _output_link(
    link: LinkRecord, before: list[OutputRecord], after: list[OutputRecord]
) -> LinkRecord:
    if not after or _joined(link.name, before).status != link.verdict:
        return link  # it was decided by something else, such as an input that was written to
    if [held.verdict for held in before] == [held.verdict for held in after]:
        return link
    now = _joined(link.name, after)
    return link.model_copy(update={"verdict": now.status.value, "reason": now.reason})


def _joined(name: str, outputs: Iterable[OutputRecord]) -> Rollup:
    return rollup(name, [_parity(output.name, output.verdict) for output in outputs])


def _layer_link(link: LinkRecord, policies: _Policies, minimum: float | None) -> LinkRecord:
    layers = [_layer(layer, policies) for layer in link.layers]
    if layers == link.layers or _walked(link, link.layers, minimum).status != link.verdict:
        return link
    now = _walked(link, layers, minimum)
    return link.model_copy(
        update={"layers": layers, "verdict": now.status.value, "reason": now.reason}
    )


def _walked(link: LinkRecord, layers: list[LayerRecord], minimum: float | None) -> Rollup:
    """The link as the verdicts of its taps give it."""
    verdicts = [
        _parity(tap.name, verdict)
        for layer in layers
        for tap in layer.taps
        for verdict in (tap.local_verdict, tap.propagated_verdict)
        if verdict is not None
    ]
    coverage = Coverage(
        expected=sum(len(layer.taps) for layer in layers),
        compared=link.compared or 0,
        empty=link.empty,
        fused=link.fused or 0,
        missing=link.missing or 0,
        minimum=1.0 if minimum is None else minimum,
    )
    return link_verdict(link.name, verdicts, coverage)


def _layer(layer: LayerRecord, policies: _Policies) -> LayerRecord:
    taps = [_tap(tap, policies, layer.module) for tap in layer.taps]
    if taps == layer.taps:
        return layer
    held = [status_of(tap.verdict) for tap in taps if tap.local_verdict is not None]
    return layer.model_copy(
        update={
            "taps": taps,
            "verdict": worst(held).value,
            "worst_local_strain": _most(tap.local_verdict for tap in taps),
            "worst_propagated_strain": _most(tap.propagated_verdict for tap in taps),
        }
    )


def _tap(tap: TapRecord, policies: _Policies, module: str) -> TapRecord:
    changed: dict[str, Any] = {}
    for side in ("local", "propagated"):
        saved, measurement = getattr(tap, f"{side}_verdict"), getattr(tap, side)
        if saved is not None and measurement is not None:
            changed[f"{side}_verdict"] = _verdict(saved, measurement, policies, module)
    if changed:
        changed["verdict"] = worst(status_of(item.verdict) for item in changed.values()).value
    return tap.model_copy(update=changed)


def _most(verdicts: Iterable[VerdictRecord | None]) -> float | None:
    strains = [v.strain for v in verdicts if v is not None and v.strain is not None]
    return max(strains, default=None)


def _parity(name: str, saved: VerdictRecord) -> Verdict:
    return Verdict(
        name=name,
        status=status_of(saved.verdict),
        who=next((who for who in Who if who.value == saved.who), Who.UNKNOWN),
        reason=saved.reason,
        ratio=saved.ratio,
        strain=saved.strain,
        weak=saved.weak,
    )


def _culprits(link: LinkRecord, report: Report) -> list[CulpritRecord]:
    """One per layer that fails by itself; failing that, the first tap that fails at all.

    Of a link that has not moved they are those that were saved.
    """
    saved = [culprit for culprit in report.culprits if culprit.link == link.name]
    if link == report.link(link.name):
        return saved
    known = {culprit.layer: culprit for culprit in saved}
    found: list[CulpritRecord] = []
    for layer in link.layers:
        failing = [
            (tap, tap.local_verdict)
            for tap in layer.taps
            if tap.local_verdict is not None and tap.local_verdict.verdict == Status.FAIL
        ]
        if failing:
            worst_one = max(failing, key=lambda pair: _strain(pair[1]))
            found.append(_culprit(link, layer, *worst_one, known))
    if found:
        return found
    for layer in link.layers:
        for tap in layer.taps:
            free = tap.propagated_verdict
            if free is not None and free.verdict == Status.FAIL:
                return [_culprit(link, layer, tap, free, known)]
    return [culprit for culprit in saved if culprit.cause == Cause.KERNEL]


def _strain(verdict: VerdictRecord) -> float:
    # A failure without a distance (NaN, another shape) is worse than any distance.
    return math.inf if verdict.strain is None else verdict.strain


def _culprit(
    link: LinkRecord,
    layer: LayerRecord,
    tap: TapRecord,
    decisive: VerdictRecord,
    known: Mapping[str, CulpritRecord],
) -> CulpritRecord:
    if layer.module in known:
        return known[layer.module]
    return CulpritRecord(
        link=link.name,
        stage="export or simplify",
        layer=layer.module,
        op=tap.op,
        tap=tap.name,
        source=tap.source,
        case=tap.case,
        local_error=_error(tap.local),
        propagated_error=_error(tap.propagated),
        ratio=decisive.ratio,
        limit=decisive.limit,
        who=decisive.who,
        reason=decisive.reason,
    )


def _error(measurement: Mapping[str, Any] | None) -> float | None:
    if measurement is None:
        return None
    held = _measured(measurement)
    distance = held.actual or held.direct
    return distance.max_abs if distance else None


_NO_FIGURES = (TypeError, ValueError, KeyError, AttributeError, OverflowError)


def _override(saved: Mapping[str, Any]) -> Override:
    """A saved override; raises ``ArtifactError`` for what is none."""
    try:
        return Override(pattern=saved["taps"], factor=saved["factor"], reason=saved["reason"])
    except _NO_FIGURES as error:
        raise _no_measurement(error) from error


def _measured(saved: Mapping[str, Any]) -> Measurement:
    """A saved measurement.

    Raises:
        ArtifactError: it is none.
    """
    try:
        return Measurement.from_json(saved)
    except _NO_FIGURES as error:
        raise _no_measurement(error) from error


def _no_measurement(error: Exception) -> ArtifactError:
    return ArtifactError(
        f"this report holds a figure that is no measurement ({error})",
        remedy="run the pipeline again; the file was changed, or is of another version",
    )
