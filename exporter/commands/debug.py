"""``export-verify debug``: take divergent layers of a finished run apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.commands import _complete
from exporter.commands import _options as common
from exporter.commands._child import in_a_child

if TYPE_CHECKING:
    from exporter.config.run_options import RunOptions


@click.command()
@common.pipeline_argument
@click.option(
    "--layer",
    metavar="NAME",
    shell_complete=_complete.layers,
    help="Module path, tap, ONNX name or glob.  [default: the first culprit]",
)
@click.option(
    "--onnx",
    "onnx_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take this file's layers apart instead of those of the run's model.onnx.",
)
@click.option("--all", "all_culprits", is_flag=True, help="Every culprit, not only the first.")
@click.option("--issue", is_flag=True, help="Print Markdown for an upstream bug report.")
@click.option(
    "--bundles",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the bundles.  [default: debug/ in the run's folder]",
)
@click.option(
    "--inputs",
    "case_file",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Of two ONNX files: an array for every input.  [default: drawn]",
)
@common.run_options("case output_dir weights provider threads memory_budget trust")
@common.format_option
@common.verbosity_options
def command(
    pipeline_path: str,
    layer: str | None,
    onnx_path: Path | None,
    all_culprits: bool,
    issue: bool,
    bundles: Path | None,
    case_file: Path | None,
    options: RunOptions,
    output_format: str,
    quiet: bool,
    verbose: bool,
) -> int:
    """Cut layers of PIPELINE's last run out, say what is different, write a bundle for each.

    With an .onnx file in the place of PIPELINE and another one under --onnx, the first value in
    which the two differ is taken out of both. Nothing is exported again. Exits 1 while a culprit
    exists.
    """
    if pipeline_path.lower().endswith(".onnx"):
        return _files(Path(pipeline_path), onnx_path, layer, bundles, case_file, quiet, verbose)
    if case_file is not None:
        raise click.UsageError("--inputs is for two ONNX files.")
    if layer is not None and all_culprits:
        raise click.UsageError("--layer and --all exclude each other.")
    pipeline = common.open_pipeline(pipeline_path, options, writes=False)
    if onnx_path is not None:
        common.require_file(onnx_path, "--onnx", "give the path of an .onnx file")
    folder = options.folder(pipeline)
    verified = folder / "verify" / "report.json"
    common.require_file(
        # What 'verify' leaves is enough to take the file apart that it was given.
        verified if onnx_path is not None and verified.is_file() else folder / "report.json",
        "no report yet",
        "run the pipeline first (export-verify run), or give its --output-dir",
    )
    code = None if onnx_path is None else in_a_child(onnx_path)
    if code is not None:
        return code

    from exporter.debugging.readme import render_issue
    from exporter.debugging.show import debugged_json, print_debugged
    from exporter.flows.debug import debug
    from exporter.report.progress import Progress

    with Progress(quiet=quiet or issue or output_format == "json", verbose=verbose) as progress:
        result = debug(
            pipeline,
            options,
            progress=progress,
            layer=layer,
            onnx=onnx_path,
            all_culprits=all_culprits,
            bundles=bundles,
        )
    if output_format == "json":
        click.echo(json.dumps(debugged_json(result), indent=1, default=str))
    elif issue and result.diagnoses:
        for diagnosis in result.diagnoses:
            click.echo(render_issue(result.pair, diagnosis))
    else:
        print_debugged(result, quiet=quiet, verbose=verbose)
    return result.exit_code


def _files(
    truth: Path,
    other: Path | None,
    value: str | None,
    bundles: Path | None,
    case: Path | None,
    quiet: bool,
    verbose: bool,
) -> int:
    if other is None:
        raise click.UsageError("Give the file that is held against it: --onnx B.onnx.")
    for path in (truth, other):
        common.require_file(path, "A.onnx, --onnx", "give the paths of .onnx files")
    if case is not None:
        common.require_file(case, "--inputs", "give an .npz with an array for every input")
    code = in_a_child(truth, other)
    if code is not None:
        return code

    from exporter.flows.debug_files import debug_files
    from exporter.report.progress import Progress
    from exporter.report.safe_text import printable

    place = bundles or Path("debug")
    with Progress(quiet=quiet, verbose=verbose) as progress:
        result = debug_files(truth, other, place, case=case, value=value, progress=progress)
    for line in result.lines[: 1 if quiet else None]:
        click.echo(printable(line))
    if result.folder is not None:
        click.echo(f"bundle: {result.folder}")
    return result.exit_code
