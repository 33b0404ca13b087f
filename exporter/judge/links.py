"""The comparisons of a run: who is held against whom, in the order of its report."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from exporter.execution.deployment import Deployment
from exporter.parity.status import Status
from exporter.report.comparison import LAYERS, OUTPUTS, OWN_STATE, LinkRecord

EAGER, CAPTURED, EXPORTED, SIMPLIFIED = "eager", "captured", "exported", "simplified"
"""Stations of the chain, in order; behind them stand the deployments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One comparison.

    Attributes:
        expected, actual: its ends: stations, or the label of a deployment.
        kind: of ``OUTPUTS``, of ``LAYERS`` inside, or of a stream on its ``OWN_STATE``.
        level: graph optimisation level of the deployment at its end; "" for a station.
    """

    expected: str
    actual: str
    kind: str = OUTPUTS
    level: str = ""

    @property
    def name(self) -> str:
        """What a report calls it."""
        if self.kind == OWN_STATE:
            return f"own state: {self.actual}"
        ends = f"{self.expected} -> {self.actual}"
        return f"layers: {ends}" if self.kind == LAYERS else ends

    def record(self, status: Status, reason: str, **more: Any) -> LinkRecord:
        """What a report says of it; ``more`` are further fields of the record."""
        ends = {"expected": self.expected, "actual": self.actual, "level": self.level}
        verdict = {"verdict": status.value, "reason": reason}
        return LinkRecord(name=self.name, kind=self.kind, **ends, **verdict, **more)


def deployed(station: str, deployment: Deployment, kind: str = OUTPUTS) -> Link:
    """A station against a deployment of its file."""
    return Link(expected=station, actual=deployment.label(), kind=kind, level=deployment.level)


def layers_to(where: str) -> Link:
    """The layers of the captured program against those of a file."""
    return Link(expected=CAPTURED, actual=where, kind=LAYERS)


def output_links(stations: Sequence[str], deployments: Sequence[Deployment]) -> list[Link]:
    """Links that compare outputs: station by station, then the last one with each deployment."""
    pairs = [Link(expected=left, actual=right) for left, right in itertools.pairwise(stations)]
    return [*pairs, *(deployed(stations[-1], deployment) for deployment in deployments)]


def planned_links(simplify: bool, deployments: Sequence[Deployment]) -> list[Link]:
    """All links that ``run`` compares."""
    stations = [EAGER, CAPTURED, EXPORTED, *([SIMPLIFIED] if simplify else [])]
    links = output_links(stations, deployments)
    links.insert(len(stations) - 1, layers_to(stations[-1]))
    return links
