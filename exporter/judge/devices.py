"""Deployments on a device: where their nodes ran, and what a failure of theirs comes from.

The file itself is judged on the CPU, stage by stage, before any device runs it. Where a device
then fails, the same cases are run in ways that differ in one setting each: the first that passes
is the cause. No stage of the export is to be blamed for what a provider's arithmetic does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One other way, and how it did on the cases that failed.

    Attributes:
        passes: every output of them passes. None: it could not be run, ``stopped`` says why.
        strain: largest error over limit. changed: discrete outputs that differ, ``case: name``.
    """

    way: Way
    deployment: Deployment
    passes: bool | None
    strain: float | None = None
    changed: tuple[str, ...] = ()
    stopped: str = ""


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
) -> Tried:
    try:
        session = FileRun(path, deployment)
        found = [r for run in runs for r in judge(run, deployment, session.run(run.case.inputs))]
    except (OnnxStoppedError, ArtifactError) as error:
        return Tried(way=way, deployment=deployment, passes=None, stopped=str(error)[:200])
    return Tried(
        way=way,
        deployment=deployment,
        passes=not any(is_differing(r.verdict.status) for r in found),
        strain=max((r.verdict.strain for r in found if r.verdict.strain is not None), default=None),
        changed=changed_outputs(found),
    )


def changed_outputs(results: Sequence[OutputResult]) -> tuple[str, ...]:
    """Discrete outputs that are not equal: decisions, such as tokens and segments."""
    return tuple(
        dict.fromkeys(
            f"{r.case}: {r.name}"
            for r in results
            if r.measurement.kind == "discrete" and r.measurement.mismatches
        )
    )


def cause_of(deployment: Deployment, tried: Sequence[Tried]) -> Way | None:
    """The one setting whose change alone makes the failing cases pass; None when none does.

    ``WITHOUT_DEVICE`` says no more than that the provider is where it goes wrong, so it comes last.
    """
    return next((held.way for held in tried if held.passes), None)


def _record(
    path: Path,
    deployment: Deployment,
    run: CaseRun,
    here: Sequence[OutputResult],
    tried: Sequence[Tried],
) -> DeploymentRecord:
    found, why = None, ""
    try:
        found = placement(path, deployment, run.case.inputs)
    except Exception as error:  # noqa: BLE001 - where nodes ran decides nothing; what is not known is said
        why = f"not known: {str(error)[:200]}"
    cause = cause_of(deployment, tried)
    strains = [r.verdict.strain for r in here if r.verdict.strain is not None]
    return DeploymentRecord(
        label=deployment.label(),
        provider=deployment.provider,
        tf32=deployment.tf32,
        nodes=dict(found.nodes) if found else {},
        seconds=dict(found.seconds) if found else {},
        copies=dict(found.copies) if found else {},
        placement=why,
        strain=max(strains, default=None),
        changed=list(changed_outputs(here)),
        cause=cause.value if cause else None,
        ways=[
            WayRecord(
                way=held.way.value,
                label=held.deployment.label(),
                passes=held.passes,
                strain=held.strain,
                changed=list(held.changed),
                stopped=held.stopped,
            )
            for held in tried
        ],
    )
