"""``export-verify compare-reports``: what has changed between two runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.core.errors import EXIT_PARITY_FAILED, EXIT_PASS, UserInputError


@click.command()
@click.argument("old", metavar="A", type=click.Path(path_type=Path))
@click.argument("new", metavar="B", type=click.Path(path_type=Path))
@common.format_option
def command(old: Path, new: Path, output_format: str) -> int:
    """Say what differs from report A to report B (each a report.json, or its folder).

    Versions, files, verdicts of links, outputs, layers and contracts, and layers whose error came
    much nearer to its limit. Exits 0 when nothing is worse in B, 1 when something is, 2 when they
    are of two pipelines.
    """
    paths = [path / "report.json" if path.is_dir() else path for path in (old, new)]
    for path in paths:
        common.require_file(path, "REPORT", "run the pipeline first, or give its report.json")

    from exporter.report.compare_reports import changes, lines_of, two_pipelines
    from exporter.report.safe_text import printable
    from exporter.report.schema import read_report

    before, after = map(read_report, paths)
    if apart := two_pipelines(before, after):
        raise UserInputError(
            f"{apart}: what differs between them is no change",
            where=str(new),
            remedy="give two reports of one pipeline",
        )
    differing = changes(before, after)
    worse = sum(change.worse for change in differing)
    if output_format == "json":
        click.echo(json.dumps([asdict(change) for change in differing], indent=1))
    else:
        for line in lines_of(differing):
            click.echo(printable(line))
        said = f"{worse} thing(s) are worse" if worse else "nothing is worse"
        click.echo(said if differing else "nothing differs")
    return EXIT_PARITY_FAILED if worse else EXIT_PASS
