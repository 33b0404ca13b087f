"""The report of a run: gathered from its parts, written as report.json and report.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from exporter import __version__
from exporter.config import Pipeline
from exporter.core.errors import EXIT_PARITY_FAILED
from exporter.core.tensors import Case
from exporter.flows.prepare import Prepared
from exporter.judge.chain_result import ChainResult
from exporter.judge.policy import policy_of
from exporter.judge.records import case_record
from exporter.models.built import WeightsInfo
from exporter.parity.status import Status
from exporter.report.decision import decided
from exporter.report.environment import describe_environment
from exporter.report.headline import headline_of
from exporter.report.schema import (
    CHECK_EMPTY,
    CHECK_LAYERS,
    CHECK_OTHER,
    ArtifactRecord,
    CheckRecord,
    ContractRecord,
    PipelineRecord,
    PolicyRecord,
    Report,
    StructureRecord,
    WaveformRecord,
    WeightsRecord,
    write_report,
)
from exporter.report.waveform import waveform_record
from exporter.report.write import RENDERINGS, write_renderings


def not_checked_always(ready: Prepared, seeded: bool) -> list[str]:
    """What no run on this machine, with these weights, can show."""
    missing = []
    if all(d.provider == "cpu" for d in ready.deployments):
        missing.append("other execution providers than the CPU: not present or not asked for")
    if seeded:
        missing.append("a trained checkpoint: the weights are seeded, the words mean nothing")
    return missing


def make_report(
    ready: Prepared,
    cases: tuple[Case, ...],
    result: ChainResult,
    *,
    weights: WeightsInfo,
    tokens: tuple[str, ...] | None,
    artifacts: list[ArtifactRecord],
    notes: list[str],
    not_checked: list[str],
    timings: dict[str, float],
    structure: list[StructureRecord] | None = None,
    contracts: list[ContractRecord] | None = None,
    made_of: Mapping[str, str] | None = None,
    layers: str = "wanted",
) -> Report:
    """Put a report together; verdict and exit code follow from all that stands in it.

    Args:
        made_of: digests of all that the export was made of.
        layers: "required" fails a report in which no value inside of the file was compared.
    """
    pipeline = ready.pipeline
    policy = policy_of(pipeline)
    checks = [*result.checks, *_other(result), *_compared(pipeline, result, layers)]
    report = Report(
        tool_version=__version__,
        verdict=Status.NOT_RUN.value,
        exit_code=EXIT_PARITY_FAILED,
        headline="",
        pipeline=PipelineRecord(
            name=pipeline.name,
            digest=pipeline.digest,
            graph_digest=pipeline.graph_digest,
            file=pipeline.where().partition(":")[0],
            weights=WeightsRecord(
                source=weights.source, digest=weights.digest, seeded=weights.seeded
            ),
            made_of=dict(made_of or {}),
        ),
        options=ready.options.words(pipeline),
        environment=describe_environment(ready.threads, ready.providers),
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
        artifacts=artifacts,
        links=result.links,
        culprits=result.culprits,
        findings=result.findings,
        structure=structure or [],
        outputs=result.outputs,
        cases=[case_record(case, _text(result.tokens.get(case.name), tokens)) for case in cases],
        contracts=contracts or [],
        deployments=result.deployments,
        checks=checks,
        waveforms=_waveforms(pipeline, cases, result),
        notes=notes,
        not_checked=[*not_checked, *_switched_off(pipeline, contracts or ())],
        timings=timings,
    )
    return decided(report.model_copy(update={"headline": headline_of(report)}))


def _compared(pipeline: Pipeline, result: ChainResult, layers: str) -> Iterator[CheckRecord]:
    """What was to be compared and was not: layers that are required, anything at all."""
    inside = sum(link.compared or 0 for link in result.links)
    if layers == "required" and not inside:
        least = pipeline.min_coverage
        asked = f"min_coverage: {least:g}" if least else "layers: required"
        reason = f"outputs only: no value inside of the file was compared, and {asked} is declared"
        yield CheckRecord(code=CHECK_LAYERS, verdict=Status.FAIL.value, reason=reason)
    outputs = [held.measurement.get("elements", 0) for held in result.outputs]
    if outputs and not inside and not any(outputs):
        reason = "every output of every case is empty, so that not one element was compared"
        yield CheckRecord(code=CHECK_EMPTY, verdict=Status.NOT_RUN.value, reason=reason)


def _other(result: ChainResult) -> list[CheckRecord]:
    """A failure that no record carries: a report that can be judged again must hold it."""
    carried = [record.verdict for record in (*result.links, *result.checks)]
    if result.status is not Status.FAIL or Status.FAIL.value in carried:
        return []
    reason = "the comparison failed for a reason that stands in none of its links"
    return [CheckRecord(code=CHECK_OTHER, verdict=Status.FAIL.value, reason=reason)]


def _switched_off(pipeline: Pipeline, contracts: Sequence[ContractRecord]) -> list[str]:
    """Contracts that say nothing about this system, and why: they are no passes."""
    found: dict[tuple[str, str], list[str]] = {}
    for held in contracts:
        if held.verdict == Status.NOT_APPLICABLE.value:
            found.setdefault((held.name, held.reason), []).append(held.side)
    lines = [
        f"contract '{name}' ({', '.join(sides)}): not applicable: {reason}"
        for (name, reason), sides in found.items()
    ]
    lines += [f"contract '{name}': switched off" for name in pipeline.switched_off_contracts]
    return lines


def _waveforms(
    pipeline: Pipeline, cases: tuple[Case, ...], result: ChainResult
) -> list[WaveformRecord]:
    """Recordings with the segments that the shipped graph found in them."""
    vad = pipeline.vad
    records = []
    for case in cases:
        outputs = result.shipped.get(case.name, {})
        waveform = case.inputs.get("waveform")
        if vad is None or waveform is None or waveform.ndim != 1 or "segments" not in outputs:
            continue
        records.append(
            waveform_record(
                case.name,
                waveform,
                sample_rate_hz=pipeline.sample_rate_hz,
                segments=[(int(start), int(end)) for start, end in outputs["segments"]],
                speech_probs=outputs.get("speech_probs"),
                hop_samples=pipeline.sample_rate_hz * 32 // 1000,
                threshold=vad.threshold,
            )
        )
    return records


def _text(rows: list[list[int]] | None, tokens: tuple[str, ...] | None) -> list[str] | None:
    if rows is None:
        return None
    if tokens is None:
        return [" ".join(str(token) for token in row) for row in rows]
    return ["".join(tokens[token] for token in row) for row in rows]


def clear_reports(folder: Path) -> None:
    """Take away what an earlier run said: beside other files it would be believed."""
    for name in ("report.json", *RENDERINGS, "stopped.txt"):
        (folder / name).unlink(missing_ok=True)


def write_reports(report: Report, folder: Path) -> None:
    """Write ``report.json`` and what it is rendered to, each atomically."""
    write_report(report, folder / "report.json")
    write_renderings(report, folder)
