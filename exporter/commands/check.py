"""``export-verify check``: check contracts of a pipeline, without judging the whole chain."""

from __future__ import annotations

import json
from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.config.output_folder import default_output_dir


@click.command()
@common.pipeline_argument
@click.option(
    "--contract",
    "contracts",
    multiple=True,
    metavar="NAME",
    help="A contract, declared or not. Repeatable.  [default: all that PIPELINE declares]",
)
@click.option("--case", metavar="NAME", help="The case that inputs are cut from.")
@click.option("--thorough", is_flag=True, help="More sizes, orders and cases, whatever they cost.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@common.output_dir_option
@common.weights_option
@common.threads_option
@common.trust_option
@common.verbosity_options
def command(
    pipeline_path: str,
    contracts: tuple[str, ...],
    case: str | None,
    thorough: bool,
    as_json: bool,
    output_dir: Path | None,
    weights: str | None,
    threads: int | None,
    trust: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Check properties of PIPELINE beyond equal outputs: causality, padding, mutation, ...

    Uses the file of a finished run in the output folder where it is of this pipeline, and
    exports in memory otherwise. Exits 0 when all required contracts pass.
    """
    pipeline = common.open_pipeline(
        pipeline_path, trust=trust, cases=(case,) if case is not None else ()
    )
    if weights is not None:
        pipeline = pipeline.with_weights(weights)

    from exporter.flows.check import check, contracts_exit_code
    from exporter.report.progress import Progress

    with Progress(quiet=quiet or as_json, verbose=verbose) as progress:
        records = check(
            pipeline,
            contracts=contracts or None,
            output_dir=output_dir or default_output_dir(pipeline),
            progress=progress,
            case=case,
            threads=threads,
            thorough=thorough,
        )
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
            if text and not (label in ("observed", "limit") and record.verdict == "not run"):
                click.echo(f"    {label:<9}{text}")
        if verbose:
            details = json.dumps(record.details, indent=2, default=str)
            click.echo("\n".join(f"    {line}" for line in details.splitlines()))
    return contracts_exit_code(records)
