"""The one sentence at the top of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.config.schema import MOST_FACTOR
from exporter.parity.nodes_in_float64 import Cause
from exporter.parity.status import Status, Who, holds, is_good
from exporter.report.comparison import DeploymentRecord, LinkRecord, StructureRecord
from exporter.report.deployments import cause_sentence
from exporter.report.kernels import kernel_sentence
from exporter.report.schema import CHECK_REPLACED, Report

_BRIEF = 300
_FALLBACK = "torch.export refuses the model; of the legacy exporter's file, a trace"
_WRONG = {
    Who.ONNX.value: "ONNX is wrong",
    Who.PYTORCH.value: "PyTorch is the worse one",
}


def headline_of(report: Report) -> str:
    """One sentence: what is wrong and where, or what was shown.

    A file that is not the one that was judged comes first: nothing else is of it. Then a capture
    that is not the module: all behind it is about another model. Then what names a place: a layer,
    a link, a difference of structure, a contract, any other check. What a device does comes behind
    what the file does on the CPU. A pass says what it is worth: whether anything but outputs was
    compared, where limits are wider than the policy's, and of which sizes it speaks.
    """
    if report.stopped is not None:
        at = f" at {report.stopped.where}" if report.stopped.where else ""
        return f"stage '{report.stopped.stage}' stopped{at}: {brief(report.stopped.detail)}"
    return f"{_FALLBACK}: {_found(report)}" if report.fallback else _found(report)


def _found(report: Report) -> str:
    links, culprits, findings = report.links, report.culprits, report.findings
    structure, contracts, checks = report.structure, report.contracts, report.checks
    deployments = report.deployments
    for check in checks:
        if check.code == CHECK_REPLACED:
            return check.reason
    for link in links:
        if link.expected == "eager" and link.verdict == Status.FAIL.value:
            return f"{link.name}: {link.reason}"
    devices = {held.label: held for held in deployments}
    at_home = [culprit for culprit in culprits if culprit.stage not in devices]
    if not at_home:
        elsewhere = _other_failure(links, devices)
        for held in () if elsewhere else deployments:
            said = cause_sentence(held)
            first = next((c for c in culprits if c.stage == held.label), None)
            if said:
                at = f"; first in layer '{first.layer}', {first.op}" if first else ""
                return f"{held.label}: {said}{at}"
    if culprits:
        first = culprits[0]
        more = f" (and {len(culprits) - 1} more)" if len(culprits) > 1 else ""
        if first.cause == Cause.KERNEL.value:
            return f"{kernel_sentence(first)}{more}"
        at = f" at {first.source}" if first.source else ""
        who = f"; {_WRONG[first.who]}" if first.who in _WRONG else ""
        return f"{first.stage}: layer '{first.layer}', {first.op}{at}: {first.reason}{who}{more}"
    for link in links:
        if link.verdict == Status.FAIL.value:
            return f"{link.name}: {link.reason}"
    failing = [item for item in structure if not item.accepted]
    if failing:
        return _changed(failing[0], failing, len(structure) - len(failing))
    for held in contracts:
        if held.verdict == Status.FAIL.value:
            where = f" in {held.where}" if held.where else ""
            return f"contract '{held.name}' ({held.side}){where}: {held.reason or held.observed}"
    for check in checks:
        if check.verdict == Status.FAIL.value:
            return check.reason
    for link in links:
        if not is_good(link.verdict):
            return f"{link.name}: {link.verdict}: {link.reason}"
    for held in contracts:
        if not holds(held.verdict, required=held.required):
            return f"contract '{held.name}' ({held.side}): {held.verdict}: {held.reason}"
    for check in checks:
        if not holds(check.verdict, required=check.required):
            return f"{check.verdict}: {check.reason}"
    compared = next((link.compared for link in links if link.compared is not None), None)
    layers = "outputs only" if compared is None else f"{compared} values inside compared one by one"
    layers = "; ".join([layers, *_weak(report)])
    kept = sum(held.verdict == Status.PASS.value for held in contracts)
    promises = f"; {kept} contract checks pass" if contracts else ""
    changed = f"; {len(structure)} change(s) of structure, on purpose" if structure else ""
    takes = f"; takes {' and '.join(report.takes)} only" if report.takes else ""
    whole = f"all {len(links)} links agree; {layers}{takes}{promises}{changed}"
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        whole += f"; finding: {kernel_sentence(findings[0])}{more}"
    return whole


def brief(detail: str) -> str:
    """The first line of a message that may be a page long."""
    first = next((line.strip() for line in detail.splitlines() if line.strip()), "no reason given")
    return first if len(first) <= _BRIEF else f"{first[: _BRIEF - 3]}..."


def _weak(report: Report) -> list[str]:
    """Where limits are wide by declaration, or too wide to fail anything, in words."""
    policy = report.policy
    said = []
    if policy.factor > MOST_FACTOR:
        why = f" ({policy.reason})" if policy.reason else ""
        said.append(f"weak: limits are {policy.factor:g} x PyTorch's own error{why}")
    wide = {o["taps"]: o["factor"] for o in policy.overrides if o["factor"] > policy.factor}
    taps = [
        [verdict for verdict in (tap.local_verdict, tap.propagated_verdict) if verdict]
        for link in report.links
        for layer in link.layers
        for tap in layer.taps
        if tap.local_verdict is not None
    ]
    what, judged = ("values", taps) if taps else ("outputs", [[o.verdict] for o in report.outputs])
    by = [{v.override for v in verdicts if v.override in wide} for verdicts in judged]
    count = sum(map(bool, by))
    if count:
        huge = any(wide[pattern] > MOST_FACTOR for patterns in by for pattern in patterns)
        word = "weak: " if huge or 2 * count > len(judged) else ""
        said.append(f"{word}{count} of {len(judged)} {what} judged by overrides")
    coarse = sum(any(v.weak for v in verdicts) for verdicts in judged)
    if 2 * coarse > len(judged):
        said.append(f"weak: limits of {coarse} of {len(judged)} {what} are too coarse to fail")
    return said


def _other_failure(links: Sequence[LinkRecord], devices: Mapping[str, DeploymentRecord]) -> bool:
    """True when a link fails that no device had a part in."""
    return any(link.verdict == Status.FAIL.value and link.actual not in devices for link in links)


def _changed(odd: StructureRecord, failing: Sequence[StructureRecord], accepted: int) -> str:
    """A file that descends from an export and is not it; what can be done if that was meant."""
    what = f"{odd.kind} '{odd.name}' of node '{odd.node}': {odd.expected} -> {odd.actual}"
    if accepted:
        return f"changed on purpose, but no rewriting beside it explains {what}"
    remedy = ""
    if all(item.explained for item in failing):
        remedy = "; if a tool has rewritten it on purpose, --changed-on-purpose lets numbers judge"
    return f"the file differs from the export that it descends from: {what}{remedy}"
