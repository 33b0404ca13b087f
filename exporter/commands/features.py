"""``export-verify features``: features that another program made, beside the pipeline's."""

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
    "--from",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Their features: .npy, .npz, .safetensors or a Kaldi .ark.",
)
@click.option("--key", metavar="NAME", help="Which array of FILE.")
@click.option(
    "--command",
    "tool",
    metavar="WORDS",
    help="Run their program: 'their-tool {wav} {out}'. Needs --trust.",
)
@click.option(
    "--with",
    "program",
    type=click.Choice(["kaldi-native-fbank", "librosa", "sherpa-onnx", "torchaudio"]),
    help="A program that is known, with the pipeline's options as far as it has them.",
)
@click.option(
    "--at",
    metavar="NAME",
    help="Module, stage or input that has the features.  [default: the nearest]",
)
@click.option(
    "--recording",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What theirs were made of, where it has another sample rate than the case's.",
)
@click.option(
    "--cmvn",
    "statistics",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Statistics that theirs may be normalised with: Kaldi's, FunASR's am.mvn, WeNet's.",
)
@click.option(
    "--format", "output_format", type=click.Choice(["text", "json", "markdown"]), default="text"
)
@common.run_options("case weights trust")
@common.verbosity_options
def command(
    pipeline_path: str,
    file: Path | None,
    key: str | None,
    tool: str | None,
    program: str | None,
    at: str | None,
    recording: Path | None,
    statistics: Path | None,
    output_format: str,
    options: RunOptions,
    quiet: bool,
    verbose: bool,
) -> int:
    """Compare features that another program made with PIPELINE's, and say what differs.

    The parameters of a front end are tried until it gives theirs: window, mel scale, hop, dither,
    normalisation and so on; what theirs do to the outputs is shown.

    \b
    Exits 0 when they are the same, 1 when not, 2 when they cannot be compared.
    """
    if sum(given is not None for given in (file, tool, program)) != 1:
        raise click.UsageError("Give one of --from, --command and --with.")
    if key is not None and file is None:
        raise click.UsageError("--key is for --from.")
    for path, option in ((file, "--from"), (recording, "--recording"), (statistics, "--cmvn")):
        if path is not None:
            common.require_file(path, option, "give the path of a file")
    pipeline = common.open_pipeline(pipeline_path, options, writes=False)

    from exporter.flows.features import Theirs, features
    from exporter.report.features import print_features, render_features
    from exporter.report.progress import Progress

    theirs = Theirs(
        file=file,
        key=key,
        command=tool,
        program=program,
        at=at,
        recording=recording,
        statistics=statistics,
    )
    with Progress(quiet=quiet or output_format != "text", verbose=verbose) as progress:
        report = features(pipeline, theirs, options, progress=progress)
    if output_format == "json":
        click.echo(report.model_dump_json(indent=1))
    elif output_format == "markdown":
        click.echo(render_features(report), nl=False)
    else:
        print_features(report, quiet=quiet)
    return report.exit_code
