"""``export-verify golden``: record what a pipeline gives, and check files against it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exporter.commands import _options as common
from exporter.commands._child import in_a_child
from exporter.commands._show import on_github, show_on_github
from exporter.core.disk import writable_folder
from exporter.core.errors import EXIT_PASS, GoldenError
from exporter.core.files import write_text

if TYPE_CHECKING:
    from exporter.config import Pipeline
    from exporter.config.run_options import RunOptions


@click.group()
def command() -> None:
    """Record golden outputs of a pipeline, and check ONNX files against them.

    \b
    A golden comes from PyTorch, never from the file that it judges; a check needs no PyTorch.
    check exits 0 for same, within rounding and environment moved; 1 for moved, missing and
    ambiguous; 2 for tampered.
    """


@command.command()
@click.argument("pipeline_path", metavar="[PIPELINE]", type=click.Path(), required=False)
@click.option(
    "--onnx",
    "onnx_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Record what this file gives, of which nobody has the PyTorch; the golden is marked.",
)
@click.option("--reason", required=True, help="Why; kept in the manifest.")
@click.option(
    "--from-run", is_flag=True, help="Take the run in the output folder instead of a new one."
)
@common.run_options("golden_dir output_dir golden_cases threads weights trust")
@common.verbosity_options
def record(
    pipeline_path: str | None,
    onnx_path: Path | None,
    reason: str,
    from_run: bool,
    options: RunOptions,
    quiet: bool,
    verbose: bool,
) -> int:
    """Run PIPELINE and, if everything agrees, record its golden (all cases by default).

    A PIPELINE that 'init' wrote of a file, or --onnx FILE, records what that file gives.
    """
    if pipeline_path is None and onnx_path is None:
        raise click.UsageError("Give PIPELINE, or --onnx FILE, or both.")
    if onnx_path is not None:
        common.require_file(onnx_path, "--onnx", "give the path of an .onnx file")
    pipeline = None
    if pipeline_path is not None:
        pipeline = common.open_pipeline(pipeline_path, options, writes=False)
        pipeline = pipeline if onnx_path is None else common.with_file(pipeline, onnx_path)
    file = onnx_path if pipeline is None else pipeline.file_alone
    if file is not None:
        return _record_file(file, pipeline, reason, options, quiet, verbose)
    pipeline = common.open_pipeline(str(pipeline_path), options)
    writable_folder(options.golden_dir, "--golden-dir", keep=False)

    from exporter.flows import golden_record
    from exporter.golden.store import exists, golden_bytes
    from exporter.report.progress import Progress

    folder = options.golden_dir / pipeline.name
    replaced = exists(folder)
    with Progress(quiet=quiet, verbose=verbose) as progress:
        golden, _ = golden_record.record(
            pipeline, options, reason=reason, from_run=from_run, progress=progress
        )
    was = "replaced" if replaced else "recorded"
    click.echo(
        f"{was} {folder}: {len(golden.cases)} cases, {len(golden.taps)} layers' values,"
        f" {golden_bytes(folder):,} bytes, sha256 {golden.digest[:12]}"
    )
    return EXIT_PASS


def _record_file(
    file: Path,
    pipeline: Pipeline | None,
    reason: str,
    options: RunOptions,
    quiet: bool,
    verbose: bool,
) -> int:
    code = in_a_child(file)
    if code is not None:
        return code
    writable_folder(options.golden_dir, "--golden-dir", keep=False)

    from exporter.flows.golden_record import record_file
    from exporter.flows.init_file import described_pipeline
    from exporter.golden.store import golden_bytes
    from exporter.golden.values import NOT_VOUCHED
    from exporter.report.progress import Progress

    with Progress(quiet=quiet, verbose=verbose) as progress:
        pipeline = pipeline or described_pipeline(file, progress)
        golden = record_file(pipeline, options, reason=reason, progress=progress)
    folder = options.golden_dir / pipeline.name
    was = "replaced" if golden.replaces else "recorded"
    click.echo(
        f"{was} {folder} ({NOT_VOUCHED}): {len(golden.cases)} cases, {len(golden.taps)} values,"
        f" {golden_bytes(folder):,} bytes, sha256 {golden.digest[:12]}"
    )
    return EXIT_PASS


@command.command()
@common.pipeline_argument
@click.option(
    "--onnx",
    "onnx_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file to check.  [default: the run folder's model.onnx, or a new export]",
)
@common.run_options("golden_dir output_dir golden_cases threads provider weights trust")
@common.format_option
@common.junit_option
@common.verbosity_options
def check(
    pipeline_path: str,
    onnx_path: Path | None,
    output_format: str,
    junit: Path | None,
    options: RunOptions,
    quiet: bool,
    verbose: bool,
) -> int:
    """Judge a file, or what PIPELINE exports now, against the golden.

    Writes a report to golden_check/ in the run folder. On GitHub Actions it also prints
    annotations and writes a job summary.
    """
    pipeline = common.open_pipeline(pipeline_path, options)
    if onnx_path is not None:
        common.require_file(onnx_path, "--onnx", "give the path of an .onnx file")
    common.junit_place(junit)
    file = onnx_path or pipeline.file_alone
    code = None if file is None else in_a_child(file)
    if code is not None:
        return code

    from exporter.core.output_folder import GOLDEN_CHECK
    from exporter.flows import golden_check
    from exporter.flows.golden_report import golden_report
    from exporter.report import golden_check as shown
    from exporter.report.progress import Progress
    from exporter.report.write import write_reports

    shows = Progress(quiet=quiet or output_format == "json", verbose=verbose)
    with shows as progress, options.taken(pipeline, progress):
        outcome = golden_check.check(pipeline, options, onnx=onnx_path, progress=progress)
        report = golden_report(pipeline, outcome, options)
        folder = options.folder(pipeline) / GOLDEN_CHECK
        write_reports(report, folder)
    if output_format == "json":
        click.echo(shown.golden_json(outcome))
    else:
        lines = [*shown.golden_lines(outcome), f"  report: {folder / 'report.html'}"]
        click.echo("\n".join(lines[:1] if quiet else lines))
    if junit is not None:
        write_text(junit, shown.golden_junit(outcome))
    if on_github():
        annotations = shown.golden_annotations(outcome, pipeline_path)
        show_on_github(annotations, shown.golden_summary(outcome), output_format)
    return outcome.exit_code


@command.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@common.format_option
def diff(old: Path, new: Path, output_format: str) -> int:
    """Compare two goldens (folders): facts, outputs, layers.

    Exits 1 when an output or a layer of NEW is beyond the limits of OLD.
    """
    from exporter.core.errors import EXIT_PARITY_FAILED
    from exporter.golden.diff import diff_goldens
    from exporter.golden.store import read_golden
    from exporter.report import golden_check as shown

    differences = diff_goldens(read_golden(old), read_golden(new))
    json_wanted = output_format == "json"
    click.echo(
        shown.diff_json(differences) if json_wanted else "\n".join(shown.diff_lines(differences))
    )
    return EXIT_PARITY_FAILED if differences.moved else EXIT_PASS


def _judged(row: Mapping[str, Any]) -> str:
    from exporter.golden.values import NOT_VOUCHED

    return f"judged {row['verdict']}" if row["vouched"] else NOT_VOUCHED


@command.command(name="list")
@common.golden_dir_option
@common.format_option
def list_(golden_dir: Path, output_format: str) -> int:
    """Show the goldens of a folder; one that was tampered with makes it exit 2."""
    import json

    from exporter.core.errors import EXIT_USER_INPUT
    from exporter.golden.store import exists, golden_bytes, read_golden

    rows, code = [], EXIT_PASS
    folders = sorted(golden_dir.iterdir()) if golden_dir.is_dir() else []
    for folder in folders:
        if not exists(folder):
            continue
        try:
            golden = read_golden(folder)
        except GoldenError as error:
            code = EXIT_USER_INPUT
            rows.append({"name": folder.name, "problem": f"{error.where}: {error.problem}"})
            continue
        rows.append(
            {
                "name": folder.name,
                "cases": [case.name for case in golden.cases],
                "taps": len(golden.taps),
                "bytes": golden_bytes(folder),
                "reason": golden.reason,
                "verdict": golden.judged["verdict"],
                "vouched": golden.vouched,
                "sha256": golden.digest,
            }
        )
    if output_format == "json":
        click.echo(json.dumps(rows, indent=1))
    elif not rows:
        click.echo(f"there is no golden in {golden_dir}")
    for row in rows if output_format == "text" else ():
        text = row.get("problem") or (
            f"{len(row['cases'])} cases, {row['taps']} layers' values, {row['bytes']:,} bytes,"
            f" {_judged(row)}, sha256 {row['sha256'][:12]}: {row['reason']}"
        )
        click.echo(f"{row['name']:<28} {text}")
    return code
