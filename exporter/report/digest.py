"""The digest of a report that stands in the certificate of the file that it judges."""

from __future__ import annotations

import hashlib

from exporter.report.schema import Report

SHIPPED = "model.onnx"


def report_digest(report: Report) -> str:
    """sha256 of a report, of all but what is another thing in every run, or known later.

    These are the timings and latencies, and digest and size of the certified file, which holds
    this digest.
    """
    blank = {"sha256": "", "bytes": 0}
    artifacts = [
        artifact.model_copy(update=blank) if artifact.name == SHIPPED else artifact
        for artifact in report.artifacts
    ]
    judged = report.model_copy(
        update={"artifacts": artifacts, "timings": {}, "breakdown": {}, "latency": []}
    )
    return hashlib.sha256(judged.model_dump_json().encode()).hexdigest()
