"""``export-verify explain``: the headline findings of a saved report."""

from __future__ import annotations

import json
from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.core.errors import EXIT_PARITY_FAILED, EXIT_PASS


@click.command()
@click.argument("report_path", metavar="REPORT", type=click.Path(path_type=Path))
@common.format_option
def command(report_path: Path, output_format: str) -> int:
    """Say in sentences what REPORT (a report.json, or its folder) found.

    Exits 0 when it could be read, whatever its verdict; 1 when a file beside it is not the one
    that was judged.
    """
    if report_path.is_dir():
        report_path = report_path / "report.json"
    common.require_file(report_path, "REPORT", "run the pipeline first, or give its report.json")

    from exporter.report.advice import next_steps
    from exporter.report.beside import held_against_files
    from exporter.report.findings import findings
    from exporter.report.overall_verdict import verdict_line
    from exporter.report.safe_text import printable
    from exporter.report.schema import read_report

    saved = read_report(report_path)
    report = held_against_files(saved, report_path)
    code = EXIT_PARITY_FAILED if len(report.checks) > len(saved.checks) else EXIT_PASS
    if output_format == "json":
        content = {
            "verdict": report.verdict,
            "headline": report.headline,
            "found": findings(report),
            "next": next_steps(report),
            "not_checked": report.not_checked,
        }
        click.echo(json.dumps(content, indent=1))
        return code
    click.echo(f"{verdict_line(report)}: {printable(report.pipeline.name)}")
    click.echo(printable(report.headline))
    for title, lines in (
        ("found", findings(report) or ["nothing that is wrong"]),
        ("next", next_steps(report)),
        ("not checked", [printable(line) for line in report.not_checked]),
    ):
        if lines:
            click.echo(f"\n{title}")
        for line in lines:
            click.echo(f"  {line}")
    return code
