"""``export-verify matrix``: one verification in many environments."""

from __future__ import annotations

import json
from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.core.errors import EXIT_PASS, UserInputError

_MOST_JOBS, _MOST_DIGITS = 256, 6


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
    "--github", is_flag=True, help="Print a matrix of shards for GitHub Actions, and run nothing."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1, max=_MOST_JOBS),
    default=_MOST_JOBS,
    show_default=True,
    help="Shards of --github, at most.",
)
@click.option("--shard", metavar="I/N", help="Only this part of the cells; nothing is explained.")
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
    github: bool,
    jobs: int,
    shard: str | None,
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

    part = _shard(shard)
    matrix = load_matrix(matrix_path, trust=trust)

    from exporter.matrix.run import MatrixOptions, chosen_cells, run_matrix, shards

    options = MatrixOptions(
        output_dir=output_dir,
        scheduler=scheduler,
        workers=workers,
        everything=everything,
        trust=trust,
        shard=part,
    )
    if github:
        count = len(shards(matrix, chosen_cells(matrix, options), jobs))
        click.echo(json.dumps({"shard": [f"{at}/{count}" for at in range(1, count + 1)]}))
        return EXIT_PASS

    from exporter.matrix.report import HTML, forget_matrix, headline, write_matrix
    from exporter.report.progress import Progress

    with Progress(quiet=quiet, verbose=verbose) as progress:
        folder = options.folder(matrix)
        forget_matrix(folder)
        result = run_matrix(matrix, options, progress)
        write_matrix(result, folder)
    click.echo(headline(result))
    if not quiet:
        click.echo(f"  report: {folder / HTML}")
    return result.decision.exit_code


def _shard(given: str | None) -> tuple[int, int] | None:
    """``2/8`` as numbers.

    Raises:
        UserInputError: it is no such part.
    """
    if given is None:
        return None
    at, _, count = given.partition("/")
    if at.isdecimal() and count.isdecimal() and len(given) <= 2 * _MOST_DIGITS:
        part = int(at), int(count)
        if 1 <= part[0] <= part[1] <= _MOST_JOBS:
            return part
    raise UserInputError(f"--shard: '{given}' is no part", remedy="for example --shard 2/8")
