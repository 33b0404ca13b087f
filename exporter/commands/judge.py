"""``export-verify judge``: judge the saved figures of a report again, without any model."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.commands._show import show_report


@click.command()
@click.argument("report_path", metavar="REPORT", type=click.Path(path_type=Path))
@click.option(
    "--factor",
    type=click.FloatRange(min=1, min_open=True),
    help="Times float32 PyTorch's own error that ONNX may be off.  [default: the report's]",
)
@common.format_option
@common.junit_option
@common.verbosity_options
def command(
    report_path: Path,
    factor: float | None,
    output_format: str,
    junit: Path | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Judge the figures in REPORT (a report.json, or its folder) with other limits.

    What no limit moves stays as it was found. The files beside REPORT must be those that it judged.
    """
    common.junit_place(junit)
    if report_path.is_dir():
        report_path = report_path / "report.json"
    common.require_file(report_path, "REPORT", "run the pipeline first, or give its report.json")

    from exporter.flows.judge import rejudge
    from exporter.report.beside import held_against_files
    from exporter.report.schema import read_report

    report = held_against_files(read_report(report_path), report_path)
    report = rejudge(report, factor=factor)
    show_report(
        report,
        folder=report_path.parent,
        output_format=output_format,
        junit=junit,
        quiet=quiet,
        verbose=verbose,
    )
    return report.exit_code
