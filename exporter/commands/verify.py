"""``export-verify verify``: judge a given ONNX file instead of exporting one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from exporter.commands import _options as common
from exporter.config.output_folder import default_output_dir


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
@common.output_dir_option
@common.case_options
@common.audio_option
@common.weights_option
@common.provider_option
@common.threads_option
@common.memory_budget_option
@common.trust_option
@common.verbosity_options
def command(
    pipeline_path: str,
    onnx_path: Path,
    output_dir: Path | None,
    cases: tuple[str, ...],
    all_cases: bool,
    audio: tuple[Path, ...],
    trust: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Judge an ONNX file against PIPELINE, layer by layer where its taps are known."""
    pipeline = common.open_pipeline(pipeline_path, trust=trust, cases=cases)
    common.require_file(onnx_path, "--onnx", "give the path of an .onnx file")

    from exporter.flows.verify import verify
    from exporter.report.progress import Progress
    from exporter.report.terminal import print_report

    folder = output_dir or default_output_dir(pipeline)
    with Progress(quiet=quiet, verbose=verbose) as progress:
        report = verify(
            pipeline,
            onnx=onnx_path,
            output_dir=folder,
            cases=cases or None,
            all_cases=all_cases,
            audio=audio,
            progress=progress,
            **options,
        )
    print_report(report, output_dir=folder / "verify", verbose=verbose, quiet=quiet)
    return report.exit_code
