"""``export-verify check``: check contracts of a pipeline, without judging the whole chain."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from exporter.commands import _options as common
from exporter.parity.status import Status

if TYPE_CHECKING:
    from exporter.config.run_options import RunOptions


@click.command()
@common.pipeline_argument
@click.option(
    "--contract",
    "contracts",
    multiple=True,
    metavar="NAME",
    help="A contract, declared or not. Repeatable.  [default: all that PIPELINE declares]",
)
@click.option("--thorough", is_flag=True, help="More sizes, orders and cases, whatever they cost.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@common.run_options("case output_dir weights threads trust")
@common.verbosity_options
def command(
    pipeline_path: str,
    contracts: tuple[str, ...],
    thorough: bool,
    as_json: bool,
    options: RunOptions,
    quiet: bool,
    verbose: bool,
) -> int:
    """Check properties of PIPELINE beyond equal outputs: causality, padding, mutation, ...

    Uses the file of a finished run in the output folder where it is of this pipeline, and
    exports in memory otherwise. Exits 0 when all required contracts pass.
    """
    pipeline = common.open_pipeline(pipeline_path, options, writes=False)

    from exporter.flows.check import check, contracts_exit_code
    from exporter.report.progress import Progress

    with Progress(quiet=quiet or as_json, verbose=verbose) as progress:
        records = check(pipeline, contracts or None, options, progress=progress, thorough=thorough)
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
    return contracts_exit_code(records)
