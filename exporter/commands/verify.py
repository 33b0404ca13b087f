"""``export-verify verify``: judge a given ONNX file instead of exporting one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.commands import _options as common
from exporter.commands._child import in_a_child
from exporter.commands._show import show_report
from exporter.commands._system import Shown, is_a_system, named_files, run_a_system
from exporter.core.errors import UserInputError

if TYPE_CHECKING:
    from exporter.config.run_options import RunOptions


@click.command()
@common.pipeline_argument
@click.option(
    "--onnx",
    "onnx_paths",
    required=True,
    multiple=True,
    metavar="FILE",
    help="The file to judge; of a system GRAPH=FILE, repeatable.",
)
@click.option(
    "--changed-on-purpose",
    is_flag=True,
    help="A tool has rewritten an export of this pipeline, an optimiser for example: what it"
    " changed is listed, and numbers judge.",
)
@common.run_options("output_dir cases all_cases audio weights provider threads memory_budget trust")
@common.format_option
@common.junit_option
@common.verbosity_options
def command(
    pipeline_path: str,
    onnx_paths: tuple[str, ...],
    changed_on_purpose: bool,
    options: RunOptions,
    output_format: str,
    junit: Path | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Judge an ONNX file against PIPELINE, layer by layer where its taps are known.

    On GitHub Actions it also prints annotations and writes a job summary.
    """
    common.junit_place(junit)
    if is_a_system(pipeline_path):
        files = named_files(onnx_paths)
        code = in_a_child(*files.values())
        if code is not None:
            return code
        shown = Shown(output_format=output_format, junit=junit, quiet=quiet, verbose=verbose)
        return run_a_system(pipeline_path, options, shown, files=files)
    pipeline = common.open_pipeline(pipeline_path, options)
    if len(onnx_paths) > 1:
        raise UserInputError("--onnx: a pipeline is one file", remedy="give the option once")
    onnx_path = Path(next(iter(onnx_paths)))
    common.require_file(onnx_path, "--onnx", "give the path of an .onnx file")
    code = in_a_child(onnx_path)
    if code is not None:
        return code

    from exporter.flows.verify import verify
    from exporter.report.progress import Progress

    with Progress(quiet=quiet or output_format == "json", verbose=verbose) as progress:
        report = verify(
            pipeline, onnx_path, options, progress=progress, changed_on_purpose=changed_on_purpose
        )
    folder = options.folder(pipeline) / "verify"
    show_report(
        report,
        folder=folder,
        output_format=output_format,
        junit=junit,
        quiet=quiet,
        verbose=verbose,
        file=pipeline_path,
    )
    return report.exit_code
