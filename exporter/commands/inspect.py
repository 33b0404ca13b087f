"""``export-verify inspect``: what an ONNX file takes and gives, and what its certificate says."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.core.errors import EXIT_PARITY_FAILED, EXIT_PASS


@click.command()
@click.argument("onnx_path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--require-certificate", is_flag=True, help="Exit 1 when FILE holds no certificate at all."
)
@click.option("--format", "output_format", type=click.Choice(["text", "json"]), default="text")
@click.option("-q", "--quiet", is_flag=True, help="Print the first line only.")
def command(onnx_path: Path, require_certificate: bool, output_format: str, quiet: bool) -> int:
    """Print inputs, outputs, dynamic axes and certificate of an ONNX file, and check its digests.

    \b
    Exits 0 when the file is as it was certified and its verdict is pass,
    1 when it was changed since, or the verdict is another one,
    0 when it holds no certificate (1 with --require-certificate), 2 when it cannot be read.
    """
    common.require_file(onnx_path, "FILE", "give the path of an .onnx file")

    from exporter.flows.inspection import inspect
    from exporter.report.inspection import NONE, inspection_json, inspection_lines

    found = inspect(onnx_path)
    if output_format == "json":
        click.echo(inspection_json(found))
    else:
        lines = inspection_lines(found)
        click.echo("\n".join(lines[:1] if quiet else lines))
    if found.state == NONE:
        return EXIT_PARITY_FAILED if require_certificate else EXIT_PASS
    return EXIT_PASS if found.verdict == "pass" else EXIT_PARITY_FAILED
