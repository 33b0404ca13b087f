"""``export-verify init``: describe what you have, so that the other commands take it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from exporter.commands import _options as common
from exporter.commands._child import in_a_child
from exporter.core.errors import EXIT_PASS


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="YAML",
    help="Where to write.  [default: <name>.yaml in this folder]",
)
@click.option("--settings", metavar="YAML", help="Arguments of a callable: '{width: 96}'.")
@click.option(
    "--method", default="forward", show_default=True, help="The module's method that is exported."
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=DTYPE[SIZES]",
    help="What a module takes: 'x=float32[2,50,80]'. Repeatable.  [default: found by running it]",
)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    metavar="AXIS=N",
    help="Of a file: size of an axis, of all of them.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common.verbosity_options
def command(
    source: str,
    output: Path | None,
    settings: str | None,
    method: str,
    inputs: tuple[str, ...],
    sizes: tuple[str, ...],
    force: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Write a YAML for SOURCE that the other commands take as it is.

    SOURCE is package.module:callable (a class or function that builds an nn.Module), the folder of
    a Hugging Face or FunASR checkpoint, or an .onnx file, of which no PyTorch is needed. It is run:
    inputs, states and the sizes of axes are found by running it, contracts are proposed, and the
    YAML says why each is as it is.
    """
    if source.lower().endswith(".onnx"):
        return _of_file(Path(source), output, sizes, force=force, quiet=quiet, verbose=verbose)
    if sizes:
        raise click.UsageError("--size is for an .onnx file; of a module give --input.")
    module_settings = _settings(settings)

    from exporter.flows.init import InitOptions, init
    from exporter.report.progress import Progress

    options = InitOptions(
        output=output, settings=module_settings, method=method, inputs=inputs, force=force
    )
    with Progress(quiet=quiet, verbose=verbose) as progress:
        written = init(source, options, stages=progress)
    if not quiet:
        click.echo(written.text, nl=False)
    trust = " --trust" if written.trust else ""
    names = " and ".join(map(str, written.paths))
    click.echo(f"wrote {names}; next: export-verify run {written.paths[0]}{trust}")
    return EXIT_PASS


def _of_file(
    source: Path,
    output: Path | None,
    sizes: tuple[str, ...],
    *,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    common.require_file(source, "FILE.onnx", "give the path of an .onnx file")
    place = output or Path(f"{source.stem}.yaml")
    code = in_a_child(source)
    if code is not None:
        return code
    at_sizes = dict(common.axis_size(text) for text in sizes)

    from exporter.flows.init_file import init_file, write_description
    from exporter.report.progress import Progress

    with Progress(quiet=quiet, verbose=verbose) as progress:
        described = init_file(source, sizes=at_sizes, progress=progress)
    text = write_description(described, place, force=force)
    if not quiet:
        click.echo(text, nl=False)
    click.echo(f"wrote {place}; next: export-verify check {place}")
    return EXIT_PASS


def _settings(given: str | None) -> dict[str, Any]:
    from exporter.config.yaml_text import values_of

    if given is None:
        return {}
    try:
        values = values_of(given)
    except ValueError as error:
        raise click.UsageError(f"--settings: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise click.UsageError("--settings takes names and values: '{width: 96, blocks: 2}'")
    return values
