"""Links of a saved report judged again, with their layers, taps and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.core.errors import ArtifactError
from exporter.parity.measurement import Measurement
from exporter.parity.rollup import Coverage, Rollup, link_verdict, rollup
from exporter.parity.status import EXCUSED, Status, Who, status_of, worst
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import Verdict, judge
from exporter.report.comparison import (
    LayerRecord,
    LinkRecord,
    OutputRecord,
    TapRecord,
    VerdictRecord,
)
from exporter.report.schema import Report

NO_FIGURES = (TypeError, ValueError, KeyError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The report's own limits, and those that are asked for."""

    own: Policy
    asked: Policy


def judge_link(
    link: LinkRecord, report: Report, outputs: list[OutputRecord], policies: Policies
) -> LinkRecord:
    """A link as its parts give it now; ``outputs`` are judged already."""
    if link.layers:
        return _layer_link(link, policies, report.policy.min_coverage)
    before = [output for output in report.outputs if output.link == link.name]
    return _output_link(link, before, [record for record in outputs if record.link == link.name])


def _verdict(
    saved: VerdictRecord, measurement: Mapping[str, Any], policies: Policies, layer: str = ""
) -> VerdictRecord:
    if saved.strain is None:
        return saved
    rebuilt = measured(measurement)
    try:
        before = judge(rebuilt, policies.own, layer=layer)
        again = judge(rebuilt, policies.asked, layer=layer)
    except NO_FIGURES as error:
        raise no_measurement(error) from error
    if again == before:
        return saved  # what was said beside the figures stays, such as graph or kernel
    # A value behind an ambiguous decision, or a kernel's loss, is out of its limit and excused.
    excused = status_of(saved.verdict) in EXCUSED and before.status is Status.FAIL
    if before.status != saved.verdict and not excused:
        return saved
    if excused and again.status is not Status.PASS:
        return saved
    return VerdictRecord.of(again)


def judge_output(output: OutputRecord, policies: Policies) -> OutputRecord:
    """An output with the verdict that the limits give."""
    again = _verdict(output.verdict, output.measurement, policies, output.layer)
    return output.model_copy(update={"verdict": again})


def _output_link(
    link: LinkRecord, before: list[OutputRecord], after: list[OutputRecord]
) -> LinkRecord:
    if not after or _joined(link.name, before).status != link.verdict:
        return link  # it was decided by something else, such as an input that was written to
    if [output.verdict for output in before] == [output.verdict for output in after]:
        return link
    now = _joined(link.name, after)
    return link.model_copy(update={"verdict": now.status.value, "reason": now.reason})


def _joined(name: str, outputs: Iterable[OutputRecord]) -> Rollup:
    return rollup(name, [_parity(output.name, output.verdict) for output in outputs])


def _layer_link(link: LinkRecord, policies: Policies, minimum: float | None) -> LinkRecord:
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


def _layer(layer: LayerRecord, policies: Policies) -> LayerRecord:
    taps = [_tap(tap, policies, layer.module) for tap in layer.taps]
    same = taps == layer.taps
    return layer if same else LayerRecord.of(layer.module, layer.module_class, taps)


def _tap(tap: TapRecord, policies: Policies, module: str) -> TapRecord:
    changed: dict[str, Any] = {}
    for side in ("local", "propagated"):
        saved, measurement = getattr(tap, f"{side}_verdict"), getattr(tap, side)
        if saved is not None and measurement is not None:
            changed[f"{side}_verdict"] = _verdict(saved, measurement, policies, module)
    if changed:
        changed["verdict"] = worst(status_of(item.verdict) for item in changed.values()).value
    return tap.model_copy(update=changed)


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


def measured(saved: Mapping[str, Any]) -> Measurement:
    """A saved measurement.

    Raises:
        ArtifactError: it is none.
    """
    try:
        return Measurement.from_json(saved)
    except NO_FIGURES as error:
        raise no_measurement(error) from error


def no_measurement(error: Exception) -> ArtifactError:
    """What is raised where a figure of the report is none."""
    return ArtifactError(
        f"this report holds a figure that is no measurement ({error})",
        remedy="run the pipeline again; the file was changed, or is of another version",
    )
