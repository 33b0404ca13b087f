"""``export-verify init``: describe what you have, so that the other commands take it."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.commands._child import in_a_child
from exporter.core.errors import EXIT_PASS


@click.command()
@click.argument("source", metavar="FILE.onnx", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="YAML",
    help="Where to write.  [default: FILE.yaml in this folder]",
)
@click.option(
    "--size", "sizes", multiple=True, metavar="AXIS=N", help="Size of an axis, of all of them."
)
@click.option("--force", is_flag=True, help="Replace a YAML that is there.")
@common.verbosity_options
def command(
    source: Path,
    output: Path | None,
    sizes: tuple[str, ...],
    force: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Write a YAML that describes FILE.onnx, found by running it; no PyTorch is needed of it.

    It names inputs, states, the sizes of axes that run, and proposes contracts with a reason for
    each. 'export-verify check' takes it as it is.
    """
    common.require_file(source, "FILE.onnx", "give the path of an .onnx file")
    place = output or Path(f"{source.stem}.yaml")
    code = in_a_child(source)
    if code is not None:
        return code
    held = dict(common.axis_size(text) for text in sizes)

    from exporter.flows.init_file import init_file, write_description
    from exporter.report.progress import Progress

    with Progress(quiet=quiet, verbose=verbose) as progress:
        described = init_file(source, sizes=held, progress=progress)
    text = write_description(described, place, force=force)
    if not quiet:
        click.echo(text, nl=False)
    click.echo(f"wrote {place}; next: export-verify check {place}")
    return EXIT_PASS
