"""``export-verify report``: render a saved report again, without models."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.commands._show import show_report
from exporter.core.disk import writable_folder
from exporter.core.errors import EXIT_PARITY_FAILED, EXIT_PASS


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@common.format_option
@common.junit_option
@common.verbosity_options
def command(
    folder: Path, output_format: str, junit: Path | None, quiet: bool, verbose: bool
) -> int:
    """Render DIR/report.json again: terminal, report.html, report.md, node colours.

    Exits 0 when it is rendered, whatever its verdict; 1 when a file beside it is not the one that
    was judged, which is then what the renderings say.
    """
    path = folder if folder.suffix == ".json" else folder / "report.json"
    common.require_file(path, "DIR", "run the pipeline first, or give the folder of a run")
    common.junit_place(junit)
    writable_folder(path.parent, "DIR")

    from exporter.report.beside import held_against_files
    from exporter.report.schema import read_report
    from exporter.report.write import write_renderings

    saved = read_report(path)
    report = held_against_files(saved, path)
    write_renderings(report, path.parent)
    show_report(
        report,
        folder=path.parent,
        output_format=output_format,
        junit=junit,
        quiet=quiet,
        verbose=verbose,
    )
    return EXIT_PARITY_FAILED if len(report.checks) > len(saved.checks) else EXIT_PASS
