"""Write what a run found into the ONNX file that it ships."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from exporter.config import Pipeline
from exporter.core.artifact import Artifact
from exporter.core.errors import ArtifactError, GoldenError
from exporter.golden.store import exists, golden_digest
from exporter.graph.certificate import certify, strip_certificate
from exporter.parity.tolerance import Policy
from exporter.report.beside import NOT_JUDGED, replaced
from exporter.report.digest import SHIPPED, report_digest
from exporter.report.schema import Report

_LIBRARIES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxsim", "onnxscript")


def certify_run(
    report: Report, shipped: Artifact, pipeline: Pipeline, policy: Policy, golden_dir: Path
) -> Report:
    """Append the certificate to the shipped file; returns the report with the file's new digest.

    Args:
        report: final but for that digest; its verdict is the certificate's.
        shipped: the file as it was judged.
        golden_dir: folder that holds one golden per pipeline.

    A file that is not the one that was judged gets no certificate, and the report fails.
    """
    try:
        facts = certificate_facts(report, policy, golden_facts(golden_dir, pipeline))
        sha256 = certify(shipped, facts)
    except ArtifactError as error:
        return replaced(report, f"{shipped.path.name} {NOT_JUDGED}: {error.problem}", str(error))
    grown = shipped.path.stat().st_size
    grown += sum((shipped.path.parent / name).stat().st_size for name in shipped.external)
    artifacts = [
        artifact.model_copy(update={"sha256": sha256, "bytes": grown})
        if artifact.name == SHIPPED
        else artifact
        for artifact in report.artifacts
    ]
    return report.model_copy(update={"artifacts": artifacts})


def uncertify(folder: Path) -> None:
    """Take the certificate off the shipped file of an earlier run, if there is one.

    A new run may stop before it ships a file: then the old one must not go on saying "pass"
    beside a report that says something else.
    """
    path = folder / SHIPPED
    if path.is_file():
        # What is no protobuf file holds no certificate that anyone could read.
        with contextlib.suppress(ArtifactError):
            strip_certificate(path)


def certificate_facts(report: Report, policy: Policy, golden: dict[str, str]) -> dict[str, str]:
    """What a report says, as the texts that stand in a certificate."""
    versions = report.environment.versions
    taps = Counter[str]()
    for link in report.links:
        taps.update(
            {
                fate: getattr(link, fate) or 0
                for fate in ("compared", "fused", "missing")
                if link.compared is not None
            }
        )
    return {
        "verdict": report.verdict,
        "headline": report.headline,
        "tool_version": report.tool_version,
        "versions": _json(
            {
                "python": report.environment.python,
                **{name: versions[name] for name in _LIBRARIES if name in versions},
            }
        ),
        "providers": ", ".join(report.environment.providers),
        "pipeline": report.pipeline.name,
        "pipeline_digest": report.pipeline.digest,
        "graph_digest": report.pipeline.graph_digest,
        "weights": report.pipeline.weights.source,
        "weights_digest": report.pipeline.weights.digest,
        **golden,
        "limits": _json(
            {
                "factor": policy.factor,
                "floor_max_ulps": policy.floor_max_ulps,
                "floor_rms_ulps": policy.floor_rms_ulps,
                "precision": report.policy.precision,
                "overrides": report.policy.overrides,
                "max_ambiguous": report.policy.max_ambiguous,
                "min_coverage": report.policy.min_coverage,
            }
        ),
        "taps": _json(dict(taps)) if taps else "outputs only",
        "links": _json({link.name: link.verdict for link in report.links}),
        "contracts": _json({f"{c.name}, {c.side}": c.verdict for c in report.contracts}),
        "cases": _json([case.name for case in report.cases]),
        "not_checked": _json(report.not_checked),
        "report_digest": report_digest(report),
    }


def golden_facts(golden_dir: Path, pipeline: Pipeline) -> dict[str, str]:
    """The golden that the pipeline has, and whether it is of the pipeline's present state."""
    folder = golden_dir / pipeline.name
    if not exists(folder):
        return {"golden": "none recorded", "golden_state": f"there is none in {golden_dir}"}
    try:
        digest, graph_digest = golden_digest(folder)
    except GoldenError as error:
        return {"golden": "unreadable", "golden_state": error.problem}
    same = graph_digest == pipeline.graph_digest
    of = "this state" if same else "another state"
    return {"golden": digest, "golden_state": f"of {of} of the pipeline; a run does not check it"}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
