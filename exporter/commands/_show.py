"""How commands end: text or JSON on standard output, JUnit in a file, GitHub's annotations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.core.files import append_text

if TYPE_CHECKING:
    from exporter.report.schema import Report


def show_report(
    report: Report,
    *,
    folder: Path,
    output_format: str,
    junit: Path | None,
    quiet: bool,
    verbose: bool,
    file: str | None = None,
) -> None:
    """Show a report in every way that was asked for.

    Args:
        folder: where its files lie. file: the pipeline YAML, for annotations; None: none are made.
    """
    from exporter.report.github import report_annotations, report_summary
    from exporter.report.terminal import print_report
    from exporter.report.write import write_junit

    if output_format == "json":
        click.echo(report.model_dump_json(indent=1))
    else:
        print_report(report, output_dir=folder, verbose=verbose, quiet=quiet)
    if junit is not None:
        write_junit(report, junit)
    if file is not None and on_github():
        show_on_github(report_annotations(report, file), report_summary(report), output_format)


def on_github() -> bool:
    """True in a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def show_on_github(annotations: Sequence[str], summary: str, output_format: str) -> None:
    """Print annotations, beside JSON on standard error, and add to the summary of the job."""
    for line in annotations:
        click.echo(line, err=output_format == "json")
    if place := os.environ.get("GITHUB_STEP_SUMMARY"):
        append_text(Path(place), summary)
