"""A check of a golden as a report of its own: what ``golden check`` leaves for people to read."""

from __future__ import annotations

from pathlib import Path

from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.artifact import sha256_of
from exporter.golden.outcome import CheckOutcome
from exporter.report.assemble import build_report
from exporter.report.environment import describe_environment, usable_cores
from exporter.report.golden_check import golden_headline, golden_records
from exporter.report.schema import ArtifactRecord, Report


def golden_report(pipeline: Pipeline, outcome: CheckOutcome, options: RunOptions) -> Report:
    """Put the outcome of a check into a report; nothing but the golden was looked at."""
    threads, provider = options.threads or usable_cores(), options.provider or "cpu"
    return build_report(
        pipeline,
        words=options.words(pipeline),
        environment=describe_environment(threads, (provider,)),
        headline=golden_headline(outcome),
        artifacts=_artifacts(outcome),
        golden=golden_records(outcome),
        notes=list(outcome.notes),
        not_checked=[
            "PyTorch: only the file was run, against what was recorded",
            "contracts: 'export-verify check' looks at them",
        ],
    )


def _artifacts(outcome: CheckOutcome) -> list[ArtifactRecord]:
    path = Path(outcome.onnx)
    if not outcome.onnx or not path.is_file():
        return []
    return [
        ArtifactRecord(
            name=path.name,
            path=str(path),
            sha256=sha256_of(path),
            nodes=None,
            bytes=path.stat().st_size,
            made=False,
        )
    ]
