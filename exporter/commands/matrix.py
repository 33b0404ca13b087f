"""``export-verify matrix``: one verification in many environments."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.commands import _options as common


@click.command()
@click.argument("matrix_path", metavar="MATRIX", type=click.Path())
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="A Dask scheduler, tcp://host:8786.  [default: a cluster on this machine]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=256),
    help="Of this machine's own cluster.  [default: as many as cores and memory allow]",
)
@click.option("--all", "everything", is_flag=True, help="Every cell instead of every pair.")
@click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for cells and report; workers share it.  [default: runs/matrix-NAME]",
)
@click.option("--trust", is_flag=True, help="Run the code that a pipeline's 'factory' names.")
@common.verbosity_options
def command(
    matrix_path: str,
    scheduler: str | None,
    workers: int | None,
    everything: bool,
    output_dir: Path | None,
    trust: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Run the cells of MATRIX, each in an environment of its own, and say which of them differ.

    A cell that is known from an earlier run is not run again; a run that was cut off goes on.

    \b
    Exits 0 when all cells pass, 1 when one fails or was not run, 2 for wrong input.
    """
    from exporter.matrix.load import load_matrix

    matrix = load_matrix(matrix_path, trust=trust)

    from exporter.matrix.run import MatrixOptions, run_matrix
    from exporter.report.progress import Progress

    options = MatrixOptions(
        output_dir=output_dir,
        scheduler=scheduler,
        workers=workers,
        everything=everything,
        trust=trust,
    )
    with Progress(quiet=quiet, verbose=verbose) as progress:
        result = run_matrix(matrix, options, progress)
    for cell, verdict in result.cells.items():
        click.echo(f"{verdict.status.value}: {cell.label()}: {verdict.reason}")
    return result.decision.exit_code
