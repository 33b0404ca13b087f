"""Other ways to run a file that a device computes wrongly: what helps tells the causes apart."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from exporter.execution.deployment import CPU, FIXED_ALGORITHM, Deployment


class Way(StrEnum):
    """What is changed, everything else left as it was declared."""

    TF32_OFF = "TF32 off"
    FIXED_ALGORITHM = "cuDNN's default algorithm"
    OPTIMISATION_OFF = "graph optimisation off"
    WITHOUT_DEVICE = "on the CPU"


def other_ways(deployment: Deployment) -> tuple[tuple[Way, Deployment], ...]:
    """The deployments that differ from this one in one thing, the smallest change first.

    None for a deployment on the CPU, which has nothing in front of it.
    """
    if deployment.provider == CPU:
        return ()
    ways = [
        (Way.TF32_OFF, deployment.without_tf32()),
        (Way.FIXED_ALGORITHM, deployment.with_setting(*FIXED_ALGORITHM)),
        (Way.OPTIMISATION_OFF, replace(deployment, level="disable")),
        (Way.WITHOUT_DEVICE, deployment.on_cpu()),
    ]
    return tuple((way, other) for way, other in ways if other != deployment)
