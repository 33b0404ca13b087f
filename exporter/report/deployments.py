"""Deployments on a device, in words: where nodes ran, and what a failure comes from."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.execution.deployment import Way
from exporter.report.comparison import DeploymentRecord, WayRecord

_ARITHMETIC = (Way.TF32_OFF, Way.FIXED_ALGORITHM)


def deployment_lines(deployments: Sequence[DeploymentRecord]) -> list[str]:
    """One or more sentences for each deployment on a device."""
    return [line for held in deployments for line in (_placed(held), *_cause_lines(held)) if line]


def cause_sentence(held: DeploymentRecord) -> str:
    """What makes a failing deployment fail, with the figures; "" when it does not fail."""
    if not held.ways:
        return ""
    shown = "; ".join(_way(way) for way in held.ways)
    if held.cause is None:
        return f"fails in every way that was tried: {shown}"
    what = "TF32" if held.cause == Way.TF32_OFF else held.cause
    if held.cause in _ARITHMETIC:
        said = f"arithmetic of the provider ({what}), not the file"
    elif held.cause == Way.OPTIMISATION_OFF:
        said = "a graph optimisation of onnxruntime on this provider, not the file"
    else:
        said = f"the provider {held.provider}, not the file: the same file passes on the CPU"
    return f"{said}: {shown}"


def _way(way: WayRecord) -> str:
    if way.passes is None:
        return f"{way.way}: not run ({way.stopped})"
    figure = "" if way.strain is None else f", {way.strain:.2g} of the limit"
    moved = f", {', '.join(way.changed)} changed" if way.changed else ""
    return f"{way.way}: {'passes' if way.passes else 'fails'}{figure}{moved}"


def _cause_lines(held: DeploymentRecord) -> list[str]:
    said = cause_sentence(held)
    lines = [f"{held.label}: {said}"] if said else []
    if held.changed:
        lines.append(f"{held.label}: decisions that change: {', '.join(held.changed)}")
    return lines


def _placed(held: DeploymentRecord) -> str:
    if held.placement:
        return f"{held.label}: where its nodes ran is {held.placement}"
    whole = sum(held.seconds.values())
    shares = {name: value / whole for name, value in held.seconds.items()} if whole else {}
    parts = [
        f"{count} nodes on {name}"
        + (f" ({shares[name]:.0%} of the host's time)" if name in shares else "")
        for name, count in sorted(held.nodes.items(), key=lambda item: -item[1])
    ]
    copies = ", ".join(f"{count} {kind}" for kind, count in sorted(held.copies.items()))
    return f"{held.label}: {', '.join(parts) or 'no nodes'}; copies: {copies or 'none'}"
