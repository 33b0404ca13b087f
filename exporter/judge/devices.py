"""Deployments on a device: where their nodes ran, and what a failure of theirs comes from.

The file itself is judged on the CPU, stage by stage, before any device runs it. Where a device
then fails, the same cases are run in ways that differ in one setting each: the first that passes
is the cause. No stage of the export is to be blamed for what a provider's arithmetic does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from exporter.core.errors import ArtifactError, OnnxStoppedError
from exporter.core.tensors import Arrays
from exporter.execution.deployment import CPU, Deployment, Way, other_ways
from exporter.execution.onnx_runs import FileRun
from exporter.execution.placement import placement
from exporter.judge.case_run import CaseRun
from exporter.judge.outputs import OutputResult
from exporter.parity.status import is_differing
from exporter.parity.tolerance import Policy
from exporter.report.comparison import DeploymentRecord, WayRecord

Judge = Callable[[CaseRun, Deployment, Arrays], list[OutputResult]]
"""Judges what a deployment gave on a case, with that deployment's own limits."""


def policy_on(policy: Policy, deployment: Deployment | None) -> Policy:
    """The limits of a deployment: with TF32 declared on, those of its ten bits of mantissa."""
    if deployment is None or not deployment.tf32 or policy.precision != "float32":
        return policy
    return replace(policy, precision="tf32")


def device_records(
    path: Path,
    deployments: Sequence[Deployment],
    runs: Sequence[CaseRun],
    results: Mapping[str, Sequence[OutputResult]],
    judge: Judge,
    progress: Callable[[str], None],
) -> list[DeploymentRecord]:
    """Describe every deployment on a device; separate the causes where one fails.

    Args:
        path: the file that is deployed.
        runs: the cases, as PyTorch and the file ran them.
        results: label of a deployment -> what its outputs gave.
        judge: judges outputs as the chain does.
    """
    records = []
    for deployment in deployments:
        if deployment.provider == CPU:
            continue
        label = deployment.label()
        progress(label)
        here = results.get(label, ())
        failed = {r.case for r in here if is_differing(r.verdict.status)}
        tried = [
            _try(path, way, other, [run for run in runs if run.case.name in failed], judge)
            for way, other in (other_ways(deployment) if failed else ())
        ]
        records.append(_record(path, deployment, runs[0], here, tried))
    return records


def _try(
    path: Path, way: Way, deployment: Deployment, runs: Sequence[CaseRun], judge: Judge
) -> WayRecord:
    label = deployment.label()
    try:
        session = FileRun(path, deployment)
        results = [r for run in runs for r in judge(run, deployment, session.run(run.case.inputs))]
    except (OnnxStoppedError, ArtifactError) as error:
        return WayRecord(way=way.value, label=label, passes=None, stopped=str(error)[:200])
    return WayRecord(
        way=way.value,
        label=label,
        passes=not any(is_differing(r.verdict.status) for r in results),
        strain=_largest(results),
        changed=changed_outputs(results),
    )


def _largest(results: Sequence[OutputResult]) -> float | None:
    """Error over limit."""
    return max((r.verdict.strain for r in results if r.verdict.strain is not None), default=None)


def changed_outputs(results: Sequence[OutputResult]) -> list[str]:
    """Discrete outputs that are not equal: decisions, such as tokens and segments."""
    changed = (r for r in results if r.measurement.kind == "discrete" and r.measurement.mismatches)
    return list(dict.fromkeys(f"{r.case}: {r.name}" for r in changed))


def _record(
    path: Path,
    deployment: Deployment,
    run: CaseRun,
    here: Sequence[OutputResult],
    tried: list[WayRecord],
) -> DeploymentRecord:
    placed, why = None, ""
    try:
        placed = placement(path, deployment, run.case.inputs)
    except Exception as error:  # noqa: BLE001 - where nodes ran decides nothing; what is not known is said
        why = f"not known: {str(error)[:200]}"
    return DeploymentRecord(
        label=deployment.label(),
        provider=deployment.provider,
        tf32=deployment.tf32,
        nodes=dict(placed.nodes) if placed else {},
        seconds=dict(placed.seconds) if placed else {},
        copies=dict(placed.copies) if placed else {},
        placement=why,
        strain=_largest(here),
        changed=changed_outputs(here),
        # That it passes without the device says least, and is tried last.
        cause=next((way.way for way in tried if way.passes), None),
        ways=tried,
    )
