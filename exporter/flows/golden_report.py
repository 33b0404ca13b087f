"""A check of a golden as a report of its own: what ``golden check`` leaves for people to read."""

from __future__ import annotations

from pathlib import Path

from exporter import __version__
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.artifact import sha256_of
from exporter.core.errors import EXIT_PASS
from exporter.golden.outcome import CheckOutcome, status_of
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.report.environment import describe_environment, usable_cores
from exporter.report.golden import golden_headline, golden_records
from exporter.report.schema import (
    ArtifactRecord,
    PipelineRecord,
    PolicyRecord,
    Report,
    WeightsRecord,
    write_report,
)
from exporter.report.write import write_renderings

FOLDER = "golden_check"


def golden_report(pipeline: Pipeline, outcome: CheckOutcome, options: RunOptions) -> Report:
    """Put the outcome of a check into a report; its links are empty, nothing but the golden was
    looked at.
    """
    source = pipeline.model.weights
    given = pipeline.parity
    return Report(
        tool_version=__version__,
        verdict=(Status.PASS if outcome.exit_code == EXIT_PASS else status_of(outcome.state)).value,
        exit_code=outcome.exit_code,
        headline=golden_headline(outcome),
        pipeline=PipelineRecord(
            name=pipeline.name,
            digest=pipeline.digest,
            graph_digest=pipeline.graph_digest,
            file=pipeline.where().partition(":")[0],
            weights=WeightsRecord(source=source, digest="", seeded=source == "seeded"),
        ),
        options=options.words(pipeline),
        environment=describe_environment(
            options.threads or usable_cores(), (options.provider or "cpu",)
        ),
        policy=PolicyRecord(
            factor=Policy().factor if given.factor is None else given.factor,
            precision=given.precision,
            overrides=[item.model_dump() for item in given.overrides],
            max_ambiguous=given.max_ambiguous,
            min_coverage=pipeline.min_coverage,
        ),
        artifacts=_artifacts(outcome),
        links=[],
        culprits=[],
        outputs=[],
        cases=[],
        golden=golden_records(outcome),
        notes=list(outcome.notes),
        not_checked=[
            "PyTorch: only the file was run, against what was recorded",
            "contracts: 'export-verify check' looks at them",
        ],
        timings={},
    )


def write_golden_report(report: Report, run_folder: Path) -> Path:
    """Write it below the run folder, beside nothing that another command has written."""
    folder = run_folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_report(report, folder / "report.json")
    write_renderings(report, folder)
    return folder


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
