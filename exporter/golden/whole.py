"""A golden from its recorded cases: what every golden says of its pipeline, file and run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exporter import __version__
from exporter.config import Pipeline
from exporter.core.errors import UserInputError
from exporter.core.tensors import PlannedTap, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.golden.compare_graph import node_prints
from exporter.golden.compare_interface import interface_of
from exporter.golden.observe import WINDOW_BYTES
from exporter.golden.outcome import flat_environment
from exporter.golden.values import Golden, GoldenCase
from exporter.graph.index import GraphIndex
from exporter.report.schema import EnvironmentRecord

STORED_BYTES = 64 << 10
"""A larger output is known by its sketch alone."""


def check_reason(reason: str) -> None:
    """Refuse a golden without a reason.

    Raises:
        UserInputError: there is none.
    """
    if not reason.strip():
        raise UserInputError("a golden needs a reason", remedy="add --reason TEXT")


def whole_golden(
    pipeline: Pipeline,
    graph: GraphIndex,
    cases: Iterable[GoldenCase],
    *,
    reason: str,
    replaces: str,
    weights: Mapping[str, Any],
    judged: Mapping[str, Any],
    environment: EnvironmentRecord,
    deployment: Deployment,
    inputs: tuple[TensorSpec, ...],
    taps: tuple[PlannedTap, ...],
) -> Golden:
    """Put a golden together.

    Args:
        graph: of the file that was run. cases: as they are recorded, one by one.
        replaces: digest of the golden that stood there; "" for the first.
        weights, judged: as in ``Golden``. inputs: of the graph. taps: what was recorded.
    """
    cases_given = tuple(cases)
    recorded = {case.name for case in cases_given}
    return Golden(
        pipeline=pipeline.name,
        pipeline_digest=pipeline.digest,
        graph_digest=pipeline.graph_digest,
        weights=weights,
        reason=reason.strip(),
        replaces=replaces,
        tool_version=__version__,
        environment=flat_environment(environment),
        judged=judged,
        run={
            "threads": deployment.threads,
            "provider": deployment.provider,
            "level": deployment.level,
            "window_bytes": WINDOW_BYTES,
        },
        inputs=inputs,
        left_out=tuple(case.name for case in pipeline.cases if case.name not in recorded),
        taps=taps,
        nodes=node_prints(graph, taps),
        interface=interface_of(graph),
        cases=cases_given,
    )
