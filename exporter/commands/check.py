"""``export-verify check``: check contracts of a pipeline, without judging the whole chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from exporter.commands import _complete
from exporter.commands import _options as common
from exporter.commands._child import in_a_child
from exporter.commands._show import on_github, show_on_github
from exporter.core.files import write_text
from exporter.parity.status import Status

if TYPE_CHECKING:
    from exporter.config.run_options import RunOptions


@click.command()
@click.argument("pipeline_path", metavar="[PIPELINE]", type=click.Path(), required=False)
@click.option(
    "--onnx",
    "onnx_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check this file alone, whoever made it: contracts that need no PyTorch.",
)
@click.option(
    "--inputs",
    "inputs_path",
    type=click.Path(path_type=Path),
    metavar="YAML",
    help="What 'init' wrote of FILE.  [default: found anew]",
)
@click.option(
    "--contract",
    "contracts",
    multiple=True,
    metavar="NAME",
    shell_complete=_complete.contracts,
    help="A contract, declared or not. Repeatable.  [default: all that PIPELINE declares]",
)
@click.option("--thorough", is_flag=True, help="More sizes, orders and cases, whatever they cost.")
@click.option("--json", "as_json", is_flag=True, hidden=True, help="As --format json.")
@common.format_option
@common.junit_option
@common.run_options("case output_dir weights threads trust")
@common.verbosity_options
def command(
    pipeline_path: str | None,
    onnx_path: Path | None,
    inputs_path: Path | None,
    contracts: tuple[str, ...],
    thorough: bool,
    as_json: bool,
    output_format: str,
    junit: Path | None,
    options: RunOptions,
    quiet: bool,
    verbose: bool,
) -> int:
    """Check properties of PIPELINE beyond equal outputs: causality, padding, mutation, ...

    Uses the file of a finished run in the output folder where it is of this pipeline, and
    exports in memory otherwise. With --onnx, or a PIPELINE that init wrote, a file is checked that
    nothing of PyTorch is known of; what cannot be asked of a file is said. Exits 0 when all
    required contracts pass.
    """
    as_json = as_json or output_format == "json"
    common.junit_place(junit)
    if (pipeline_path is None) == (onnx_path is None):
        raise click.UsageError("Give PIPELINE, or --onnx FILE.")
    if inputs_path is not None and onnx_path is None:
        raise click.UsageError("--inputs describes the FILE of --onnx.")
    if onnx_path is not None:
        common.require_file(onnx_path, "--onnx", "give the path of an .onnx file")
    pipeline = None
    given = pipeline_path or inputs_path
    if given is not None:
        pipeline = common.open_pipeline(str(given), options, writes=False)
        pipeline = pipeline if onnx_path is None else common.with_file(pipeline, onnx_path)
    file = onnx_path if pipeline is None else pipeline.file_alone
    if file is not None:
        code = in_a_child(file)
        if code is not None:
            return code

    from exporter.flows.check import check, left_out
    from exporter.flows.init_file import described_pipeline
    from exporter.report.github import contract_annotations, contracts_summary
    from exporter.report.junit import render_contracts_junit
    from exporter.report.overall_verdict import contracts_exit_code
    from exporter.report.progress import Progress

    with Progress(quiet=quiet or as_json, verbose=verbose) as progress:
        if pipeline is None:
            pipeline = described_pipeline(cast(Path, onnx_path), progress)
        records = check(pipeline, contracts or None, options, progress=progress, thorough=thorough)
    if junit is not None:
        write_text(junit, render_contracts_junit(pipeline.name, records))
    if on_github():
        annotations = list(contract_annotations(records, pipeline.name, str(given or onnx_path)))
        summary = contracts_summary(records, pipeline.name)
        show_on_github(annotations, summary, "json" if as_json else "text")
    if as_json:
        rows = [record.model_dump(mode="json") for record in records]
        click.echo(json.dumps(rows, indent=1, allow_nan=False))
        return contracts_exit_code(records)
    for record in records:
        click.echo(f"{record.name} ({record.side}): {record.verdict}")
        if quiet:
            continue
        for label, text in (
            ("where", record.where),
            ("observed", record.observed),
            ("limit", record.limit),
            ("why", record.reason),
            ("advice", record.advice),
        ):
            if text and not (label in ("observed", "limit") and record.verdict == Status.NOT_RUN):
                click.echo(f"    {label:<9}{text}")
        if verbose:
            details = json.dumps(record.details, indent=2, default=str)
            click.echo("\n".join(f"    {line}" for line in details.splitlines()))
    if pipeline.file_alone is not None and not quiet:
        click.echo("not checked: whether the file computes what its model does; nobody has it here")
        if left := left_out(records):
            click.echo(f"not checked, not declared: {', '.join(left)}")
    return contracts_exit_code(records)
