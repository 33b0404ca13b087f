"""Deployments on a device, in words: where nodes ran, and what a failure comes from."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.execution.deployment import Way
from exporter.report.comparison import DeploymentRecord, WayRecord

_ARITHMETIC = (Way.TF32_OFF, Way.FIXED_ALGORITHM)


def deployment_lines(deployments: Sequence[DeploymentRecord]) -> list[str]:
    """One or more sentences for each deployment on a device."""
    return [
        line
        for deployment in deployments
        for line in (_placed(deployment), *_cause_lines(deployment))
        if line
    ]


def cause_sentence(deployment: DeploymentRecord) -> str:
    """What makes a failing deployment fail, with the figures; "" when it does not fail."""
    if not deployment.ways:
        return ""
    shown = "; ".join(_way(way) for way in deployment.ways)
    if deployment.cause is None:
        return f"fails in every way that was tried: {shown}"
    what = "TF32" if deployment.cause == Way.TF32_OFF else deployment.cause
    if deployment.cause in _ARITHMETIC:
        said = f"arithmetic of the provider ({what}), not the file"
    elif deployment.cause == Way.OPTIMISATION_OFF:
        said = "a graph optimisation of onnxruntime on this provider, not the file"
    else:
        said = f"the provider {deployment.provider}, not the file: the same file passes on the CPU"
    return f"{said}: {shown}"


def _way(way: WayRecord) -> str:
    if way.passes is None:
        return f"{way.way}: not run ({way.stopped})"
    figure = "" if way.strain is None else f", {way.strain:.2g} of the limit"
    moved = f", {', '.join(way.changed)} changed" if way.changed else ""
    return f"{way.way}: {'passes' if way.passes else 'fails'}{figure}{moved}"


def _cause_lines(deployment: DeploymentRecord) -> list[str]:
    said = cause_sentence(deployment)
    lines = [f"{deployment.label}: {said}"] if said else []
    if deployment.changed:
        lines.append(f"{deployment.label}: decisions that change: {', '.join(deployment.changed)}")
    return lines


def _placed(deployment: DeploymentRecord) -> str:
    if deployment.placement:
        return f"{deployment.label}: where its nodes ran is {deployment.placement}"
    whole = sum(deployment.seconds.values())
    shares = {name: value / whole for name, value in deployment.seconds.items()} if whole else {}
    parts = [
        f"{count} nodes on {name}"
        + (f" ({shares[name]:.0%} of the host's time)" if name in shares else "")
        for name, count in sorted(deployment.nodes.items(), key=lambda item: -item[1])
    ]
    copies = ", ".join(f"{count} {kind}" for kind, count in sorted(deployment.copies.items()))
    return f"{deployment.label}: {', '.join(parts) or 'no nodes'}; copies: {copies or 'none'}"
