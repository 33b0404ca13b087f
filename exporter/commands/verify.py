"""``export-verify verify``: judge a given ONNX file instead of exporting one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.commands import _options as common

if TYPE_CHECKING:
    from exporter.config.run_options import RunOptions


@click.command()
@common.pipeline_argument
@click.option(
    "--onnx",
    "onnx_path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file to judge.",
)
@click.option(
    "--changed-on-purpose",
    is_flag=True,
    help="A tool has rewritten an export of this pipeline, an optimiser for example: what it"
    " changed is listed, and numbers judge.",
)
@common.run_options("output_dir cases all_cases audio weights provider threads memory_budget trust")
@common.verbosity_options
def command(
    pipeline_path: str,
    onnx_path: Path,
    changed_on_purpose: bool,
    options: RunOptions,
    quiet: bool,
    verbose: bool,
) -> int:
    """Judge an ONNX file against PIPELINE, layer by layer where its taps are known."""
    pipeline = common.open_pipeline(pipeline_path, options)
    common.require_file(onnx_path, "--onnx", "give the path of an .onnx file")

    from exporter.flows.verify import verify
    from exporter.report.progress import Progress
    from exporter.report.terminal import print_report

    with Progress(quiet=quiet, verbose=verbose) as progress:
        report = verify(
            pipeline, onnx_path, options, progress=progress, changed_on_purpose=changed_on_purpose
        )
    folder = options.folder(pipeline) / "verify"
    print_report(report, output_dir=folder, verbose=verbose, quiet=quiet)
    return report.exit_code
