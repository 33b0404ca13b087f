"""A report from its parts: the one place where its verdict, exit code and headline follow.

Runs, checks of a given file, runs that stopped, checks of a golden and figures that are judged
again all end here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from exporter import __version__
from exporter.config import Pipeline
from exporter.core.errors import EXIT_PARITY_FAILED
from exporter.parity.status import Status
from exporter.parity.tolerance import policy_of
from exporter.report.headline import headline_of
from exporter.report.overall_verdict import decided
from exporter.report.schema import (
    CHECK_EMPTY,
    CHECK_LAYERS,
    CheckRecord,
    EnvironmentRecord,
    PipelineRecord,
    PolicyRecord,
    Report,
    WeightsRecord,
)


def build_report(
    pipeline: Pipeline,
    *,
    words: list[str],
    environment: EnvironmentRecord,
    not_checked: list[str],
    weights: WeightsRecord | None = None,
    made_of: Mapping[str, str] | None = None,
    layers: str = "wanted",
    headline: str = "",
    **parts: Any,
) -> Report:
    """Put a report together; verdict and exit code follow from all that stands in it.

    Args:
        words: what leads another command to the same run.
        not_checked: what the command does not show, in words.
        weights: None where nobody has loaded them.
        made_of: digests of all that the export was made of.
        layers: "required" fails a report in which no value inside of the file was compared.
        headline: in place of the one that the parts give.
        parts: further fields of ``Report``; what is not given is empty.
    """
    policy, source = policy_of(pipeline), pipeline.model.weights
    empty = {name: [] for name in ("artifacts", "links", "culprits", "outputs", "cases")}
    report = Report(
        tool_version=__version__,
        verdict=Status.NOT_RUN.value,
        exit_code=EXIT_PARITY_FAILED,
        headline="",
        pipeline=PipelineRecord(
            name=pipeline.name,
            digest=pipeline.digest,
            graph_digest=pipeline.graph_digest,
            file=pipeline.file,
            weights=weights or WeightsRecord(source=source, digest="", seeded=source == "seeded"),
            made_of=dict(made_of or {}),
        ),
        options=words,
        environment=environment,
        not_checked=not_checked,
        policy=PolicyRecord(
            factor=policy.factor,
            precision=pipeline.parity.precision,
            overrides=[item.model_dump() for item in pipeline.parity.overrides],
            max_ambiguous=pipeline.parity.max_ambiguous,
            kernel_loss=policy.kernel_loss,
            min_coverage=pipeline.min_coverage,
            reason=pipeline.parity.reason or "",
            layers=layers,
            required=pipeline.required,
        ),
        **{**empty, "timings": {}, **parts},
    )
    checks = [*report.checks, *_not_compared(report)]
    return concluded(report.model_copy(update={"checks": checks}), headline)


def concluded(report: Report, headline: str = "") -> Report:
    """The report with the verdict, the exit code and the headline that its parts give."""
    return decided(report.model_copy(update={"headline": headline or headline_of(report)}))


def _not_compared(report: Report) -> Iterator[CheckRecord]:
    """What was to be compared and was not: layers that are required, anything at all."""
    inside = sum(link.compared or 0 for link in report.links)
    if report.policy.layers == "required" and not inside:
        least = report.policy.min_coverage
        asked = f"min_coverage: {least:g}" if least else "layers: required"
        reason = f"outputs only: no value inside of the file was compared, and {asked} is declared"
        yield CheckRecord(code=CHECK_LAYERS, verdict=Status.FAIL.value, reason=reason)
    outputs = [output.measurement.get("elements", 0) for output in report.outputs]
    if outputs and not inside and not any(outputs):
        reason = "every output of every case is empty, so that not one element was compared"
        yield CheckRecord(code=CHECK_EMPTY, verdict=Status.NOT_RUN.value, reason=reason)
