"""What a run or a check of a given file found, as the parts of its report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporter.config import Pipeline
from exporter.core.tensors import Case
from exporter.flows.prepare import Prepared
from exporter.judge.chain_result import ChainResult
from exporter.judge.report_records import case_record
from exporter.models.built import WeightsInfo
from exporter.parity.status import Status
from exporter.report.assemble import build_report
from exporter.report.environment import describe_environment
from exporter.report.schema import (
    CHECK_OTHER,
    CheckRecord,
    ContractRecord,
    Report,
    WaveformRecord,
    WeightsRecord,
)
from exporter.report.waveform import waveform_record


def not_checked_always(ready: Prepared, seeded: bool) -> list[str]:
    """What no run on this machine, with these weights, can show."""
    missing = []
    if all(d.provider == "cpu" for d in ready.deployments):
        missing.append("other execution providers than the CPU: not present or not asked for")
    if seeded:
        missing.append("a trained checkpoint: the weights are seeded, the words mean nothing")
    return missing


def judged_report(
    ready: Prepared,
    cases: tuple[Case, ...],
    result: ChainResult,
    *,
    weights: WeightsInfo,
    tokens: tuple[str, ...] | None,
    contracts: Sequence[ContractRecord] = (),
    not_checked: Sequence[str] = (),
    notes: Sequence[str] = (),
    **parts: Any,
) -> Report:
    """The report of a chain that was judged.

    Args:
        parts: as for ``build_report``.
    """
    pipeline = ready.pipeline
    return build_report(
        pipeline,
        words=ready.options.words(pipeline),
        environment=describe_environment(ready.threads, ready.providers),
        weights=WeightsRecord(source=weights.source, digest=weights.digest, seeded=weights.seeded),
        links=result.links,
        culprits=result.culprits,
        findings=result.findings,
        outputs=result.outputs,
        deployments=result.deployments,
        checks=[*result.checks, *_other(result)],
        cases=[case_record(case, _text(result.tokens.get(case.name), tokens)) for case in cases],
        contracts=list(contracts),
        waveforms=_waveforms(pipeline, cases, result),
        notes=[*notes, *result.notes],
        not_checked=[
            *not_checked,
            *not_checked_always(ready, weights.seeded),
            *switched_off(pipeline, contracts),
        ],
        **parts,
    )


def _other(result: ChainResult) -> list[CheckRecord]:
    """A failure that no record carries: a report that can be judged again must hold it."""
    carried = [record.verdict for record in (*result.links, *result.checks)]
    if result.status is not Status.FAIL or Status.FAIL.value in carried:
        return []
    reason = "the comparison failed for a reason that stands in none of its links"
    return [CheckRecord(code=CHECK_OTHER, verdict=Status.FAIL.value, reason=reason)]


def switched_off(pipeline: Pipeline, contracts: Sequence[ContractRecord]) -> list[str]:
    """Contracts that say nothing about this system, and why: they are no passes."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for contract in contracts:
        if contract.verdict == Status.NOT_APPLICABLE.value:
            reasons.setdefault((contract.name, contract.reason), []).append(contract.side)
    lines = [
        f"contract '{name}' ({', '.join(sides)}): not applicable: {reason}"
        for (name, reason), sides in reasons.items()
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
