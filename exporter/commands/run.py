"""``export-verify run``: export a pipeline, simplify it, judge it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from exporter.commands import _options as common
from exporter.config.output_folder import default_output_dir


@click.command()
@common.pipeline_argument
@common.output_dir_option
@common.case_options
@common.audio_option
@common.weights_option
@common.provider_option
@common.threads_option
@common.memory_budget_option
@common.golden_dir_option
@common.cache_option
@common.trust_option
@common.verbosity_options
def command(
    pipeline_path: str,
    output_dir: Path | None,
    cases: tuple[str, ...],
    all_cases: bool,
    audio: tuple[Path, ...],
    trust: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Export PIPELINE as one ONNX graph and judge every stage and layer of it.

    Exits 0 when everything that the pipeline declares ran and passed.
    """
    pipeline = common.open_pipeline(pipeline_path, trust=trust, cases=cases)

    from exporter.flows.run import run
    from exporter.report.progress import Progress
    from exporter.report.terminal import print_report

    output_dir = output_dir or default_output_dir(pipeline)
    with Progress(quiet=quiet, verbose=verbose) as progress:
        report = run(
            pipeline,
            output_dir=output_dir,
            cases=cases or None,
            all_cases=all_cases,
            audio=audio,
            progress=progress,
            **options,
        )
    print_report(report, output_dir=output_dir, verbose=verbose, quiet=quiet)
    return report.exit_code
