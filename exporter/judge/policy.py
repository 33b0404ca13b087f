"""The parity policy of a pipeline: its YAML as what ``parity`` judges by."""

from __future__ import annotations

from dataclasses import replace

from exporter.config import Pipeline
from exporter.parity.tolerance import Override, Policy


def policy_of(pipeline: Pipeline) -> Policy:
    """The parity policy that a pipeline declares."""
    given = pipeline.parity
    overrides = tuple(
        Override(pattern=item.taps, factor=item.factor, reason=item.reason)
        for item in given.overrides
    )
    precision = "int8" if given.precision == "int8_weights" else given.precision
    policy = Policy(precision=precision, overrides=overrides, kernel_loss=given.kernel_loss)
    return policy if given.factor is None else replace(policy, factor=given.factor)
