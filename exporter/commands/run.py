"""``export-verify run``: export a pipeline or a system, simplify it, judge it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.commands import _options as common
from exporter.commands._show import show_report
from exporter.commands._system import Shown, is_a_system, only_of_systems, run_a_system
from exporter.core.errors import UserInputError

if TYPE_CHECKING:
    from exporter.config.run_options import RunOptions


@click.command()
@common.pipeline_argument
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="Of a system: JSON lines of recordings and texts, run after its cases.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that share the manifest; each holds the system in memory.",
)
@common.run_options(
    "output_dir cases all_cases audio weights provider threads memory_budget golden_dir cache"
    " bench trust"
)
@common.format_option
@common.junit_option
@common.verbosity_options
def command(
    pipeline_path: str,
    options: RunOptions,
    manifest: Path | None,
    jobs: int,
    output_format: str,
    junit: Path | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Export PIPELINE as one ONNX graph and judge every stage and layer of it.

    PIPELINE may be a system of several graphs: then each is, and all of them under their driver.

    Exits 0 when everything that the pipeline declares ran and passed. On GitHub Actions it also
    prints annotations and writes a job summary.
    """
    common.junit_place(junit)
    if jobs > 1 and manifest is None:
        raise UserInputError("--jobs shares a manifest", remedy="give one with --manifest")
    if is_a_system(pipeline_path):
        shown = Shown(output_format=output_format, junit=junit, quiet=quiet, verbose=verbose)
        return run_a_system(pipeline_path, options, shown, manifest=manifest, jobs=jobs)
    if manifest is not None:
        raise only_of_systems("--manifest", pipeline_path)
    pipeline = common.open_pipeline(pipeline_path, options)

    from exporter.flows.run import run
    from exporter.report.progress import Progress

    with Progress(quiet=quiet or output_format == "json", verbose=verbose) as progress:
        report = run(pipeline, options, progress=progress)
    show_report(
        report,
        folder=options.folder(pipeline),
        output_format=output_format,
        junit=junit,
        quiet=quiet,
        verbose=verbose,
        file=pipeline_path,
    )
    return report.exit_code
