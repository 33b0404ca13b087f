"""Saved figures judged again with other limits; no model runs, torch and onnx are not needed.

Only verdicts that rest on a distance move. What is discrete, missing, of another shape, empty or
not finite does not depend on a limit and stays as it was saved; so does "ambiguous", unless the
value now passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from exporter.errors import ArtifactError
from exporter.headline import headline
from exporter.parity.measurement import Measurement
from exporter.parity.rollup import Coverage, Rollup, link_verdict, rollup
from exporter.parity.status import Status, Who, exit_code, worst
from exporter.parity.tolerance import Override, Policy
from exporter.parity.verdict import Verdict, judge
from exporter.report.schema import (
    CulpritRecord,
    LayerRecord,
    LinkRecord,
    OutputRecord,
    Report,
    TapRecord,
    VerdictRecord,
)


def rejudge(report: Report, *, factor: float | None = None) -> Report:
    """Return a report with the verdicts that another factor gives.

    Args:
        report: as a run wrote it.
        factor: times float32 PyTorch's own error; ``None`` for the report's own, which must
            give the verdicts that were saved.

    Raises:
        ArtifactError: the report holds a figure that is no measurement.
    """
    saved = report.policy
    policy = Policy(
        factor=saved.factor if factor is None else factor,
        precision="int8" if saved.precision == "int8_weights" else saved.precision,
        overrides=tuple(
            Override(pattern=item["taps"], factor=item["factor"], reason=item["reason"])
            for item in saved.overrides
        ),
    )
    outputs = [_output(output, policy) for output in report.outputs]
    minimum = 1.0 if saved.min_coverage is None else saved.min_coverage
    links = [
        _layer_link(link, policy, minimum)
        if link.layers
        else _output_link(
            link,
            [output for output in report.outputs if output.link == link.name],
            [output for output in outputs if output.link == link.name],
        )
        for link in report.links
    ]
    culprits = [culprit for link in links for culprit in _culprits(link, report.culprits)]
    statuses = [Status(link.verdict) for link in links]
    # What is not a distance keeps its verdict: contracts and goldens have limits of their own.
    statuses += [Status(item.verdict) for item in (*report.contracts, *report.golden)]
    excused = report.exit_code == 0
    code = exit_code(
        [(status, not excused) for status in statuses], ambiguous_cap=saved.max_ambiguous
    )
    return report.model_copy(
        update={
            "policy": saved.model_copy(update={"factor": policy.factor}),
            "links": links,
            "outputs": outputs,
            "culprits": culprits,
            "verdict": (Status.PASS if code == 0 else worst(statuses)).value,
            "exit_code": code,
            "headline": headline(links, culprits),
            "notes": [*report.notes, f"judged again with factor {policy.factor:g}"],
        }
    )


def _verdict(
    saved: VerdictRecord, measurement: Mapping[str, Any], policy: Policy, layer: str = ""
) -> VerdictRecord:
    if saved.strain is None:
        return saved
    try:
        again = judge(Measurement.from_json(measurement), policy, layer=layer)
    except (TypeError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"this report holds a figure that is no measurement ({error})",
            remedy="run the pipeline again; the file was changed, or is of another version",
        ) from error
    if saved.verdict == Status.AMBIGUOUS and again.status is Status.FAIL:
        return saved
    return VerdictRecord(
        verdict=again.status.value,
        who=again.who.value,
        ratio=again.ratio,
        limit=again.limit.max_abs if again.limit else None,
        strain=again.strain,
        reason=again.reason,
    )


def _output(output: OutputRecord, policy: Policy) -> OutputRecord:
    return output.model_copy(
        update={"verdict": _verdict(output.verdict, output.measurement, policy)}
    )


def _output_link(
    link: LinkRecord, before: list[OutputRecord], after: list[OutputRecord]
) -> LinkRecord:
    if not after or _joined(link.name, before).status != link.verdict:
        return link  # it was decided by something else, such as an input that was written to
    now = _joined(link.name, after)
    return link.model_copy(update={"verdict": now.status.value, "reason": now.reason})


def _joined(name: str, outputs: Iterable[OutputRecord]) -> Rollup:
    return rollup(name, [_parity(output.name, output.verdict) for output in outputs])


def _layer_link(link: LinkRecord, policy: Policy, minimum: float) -> LinkRecord:
    layers = [_layer(layer, policy) for layer in link.layers]
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
        fused=link.fused or 0,
        missing=link.missing or 0,
        minimum=minimum,
    )
    now = link_verdict(link.name, verdicts, coverage)
    return link.model_copy(
        update={"layers": layers, "verdict": now.status.value, "reason": now.reason}
    )


def _layer(layer: LayerRecord, policy: Policy) -> LayerRecord:
    taps = [_tap(tap, policy, layer.module) for tap in layer.taps]
    held = [Status(tap.verdict) for tap in taps if tap.local_verdict is not None]
    return layer.model_copy(
        update={
            "taps": taps,
            "verdict": worst(held).value,
            "worst_local_strain": _most(tap.local_verdict for tap in taps),
            "worst_propagated_strain": _most(tap.propagated_verdict for tap in taps),
        }
    )


def _tap(tap: TapRecord, policy: Policy, module: str) -> TapRecord:
    changed: dict[str, Any] = {}
    for side in ("local", "propagated"):
        saved, measurement = getattr(tap, f"{side}_verdict"), getattr(tap, side)
        if saved is not None and measurement is not None:
            changed[f"{side}_verdict"] = _verdict(saved, measurement, policy, module)
    if changed:
        changed["verdict"] = worst(Status(item.verdict) for item in changed.values()).value
    return tap.model_copy(update=changed)


def _most(verdicts: Iterable[VerdictRecord | None]) -> float | None:
    strains = [v.strain for v in verdicts if v is not None and v.strain is not None]
    return max(strains, default=None)


def _parity(name: str, saved: VerdictRecord) -> Verdict:
    return Verdict(
        name=name,
        status=Status(saved.verdict),
        who=Who(saved.who) if saved.who else Who.UNKNOWN,
        reason=saved.reason,
        ratio=saved.ratio,
        strain=saved.strain,
    )


def _culprits(link: LinkRecord, saved: list[CulpritRecord]) -> list[CulpritRecord]:
    """One per layer that fails by itself; failing that, the first tap that fails at all."""
    known = {culprit.layer: culprit for culprit in saved if culprit.link == link.name}
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
    return []


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
    held = Measurement.from_json(measurement)
    distance = held.actual or held.direct
    return distance.max_abs if distance else None
