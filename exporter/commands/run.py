"""``export-verify run``: export a pipeline, simplify it, judge it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from exporter.commands import _options as common

if TYPE_CHECKING:
    from exporter.config.run_options import RunOptions


@click.command()
@common.pipeline_argument
@common.run_options(
    "output_dir cases all_cases audio weights provider threads memory_budget golden_dir cache trust"
)
@common.verbosity_options
def command(pipeline_path: str, options: RunOptions, quiet: bool, verbose: bool) -> int:
    """Export PIPELINE as one ONNX graph and judge every stage and layer of it.

    Exits 0 when everything that the pipeline declares ran and passed.
    """
    pipeline = common.open_pipeline(pipeline_path, options)

    from exporter.flows.run import run
    from exporter.report.progress import Progress
    from exporter.report.terminal import print_report

    with Progress(quiet=quiet, verbose=verbose) as progress:
        report = run(pipeline, options, progress=progress)
    print_report(report, output_dir=options.folder(pipeline), verbose=verbose, quiet=quiet)
    return report.exit_code
