"""A report beside its files: a verdict is of the very bytes that were judged, and of no others.

Whoever reads a report and says something of a file asks here first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.core.artifact import sha256_of
from exporter.parity.status import Status
from exporter.report.overall_verdict import decided
from exporter.report.schema import CHECK_REPLACED, ArtifactRecord, CheckRecord, Report

NOT_JUDGED = "is not the file that was judged"
_ONNX = ".onnx"


def held_against_files(report: Report, report_path: Path) -> Report:
    """The report as it counts now: one whose file was replaced since has failed.

    Args:
        report_path: where its report.json lies.

    A file that is nowhere to be found is only told of: the report may have travelled alone.
    """
    changed = changed_files(report, report_path)
    if changed:
        report = replaced(report, "; ".join(changed), *changed)
    absent = absent_files(report, report_path)
    if absent:
        said = f"not here, so not compared with its digest: {', '.join(absent)}"
        report = report.model_copy(update={"notes": [*report.notes, said]})
    return report


def replaced(report: Report, headline: str, *notes: str) -> Report:
    """The report of a file that is not the one that was judged."""
    check = CheckRecord(code=CHECK_REPLACED, verdict=Status.FAIL.value, reason=headline)
    update = {
        "checks": [*report.checks, check],
        "headline": headline,
        "notes": [*report.notes, *notes],
    }
    return decided(report.model_copy(update=update))


def changed_files(report: Report, report_path: Path) -> tuple[str, ...]:
    """In words, every ONNX file of a report that is there and holds other bytes; () for none."""
    return tuple(
        filter(None, (changed_file(artifact, report_path) for artifact in _judged(report)))
    )


def absent_files(report: Report, report_path: Path) -> tuple[str, ...]:
    """Names of the ONNX files of a report that are not there."""
    return tuple(
        artifact.name for artifact in _judged(report) if place(artifact, report_path) is None
    )


def changed_file(artifact: ArtifactRecord, report_path: Path) -> str:
    """In words, that a file (or its external data) holds other bytes; "" when not, or not there."""
    path = place(artifact, report_path)
    if path is None:
        return ""
    if sha256_of(path) != artifact.sha256:
        return f"{path} {NOT_JUDGED}: it holds other bytes than report.json says"
    for name, digest in artifact.external.items():
        data = path.parent / name
        if not data.is_file():
            return f"{path} {NOT_JUDGED}: its data '{name}' is gone"
        if sha256_of(data) != digest:
            return f"{path} {NOT_JUDGED}: its data '{name}' holds other bytes"
    return ""


def place(artifact: ArtifactRecord, report_path: Path) -> Path | None:
    """Where a file of a report lies; None for nowhere.

    What a run has made is looked for beside its report: at another place may lie another file.
    """
    path = report_path.parent / artifact.name if artifact.made else Path(artifact.path)
    return path if path.is_file() else None


def _judged(report: Report) -> Iterator[ArtifactRecord]:
    return (
        artifact for artifact in report.artifacts if artifact.nodes or artifact.path.endswith(_ONNX)
    )
