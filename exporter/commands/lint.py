"""``export-verify lint``: pipelines load, and certified files are as they were certified."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.commands._child import in_a_child
from exporter.core.errors import (
    EXIT_PARITY_FAILED,
    EXIT_PASS,
    EXIT_USER_INPUT,
    UserInputError,
)


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path(path_type=Path))
def command(files: tuple[Path, ...]) -> int:
    """Read pipeline YAMLs and ONNX files, for a hook in front of a commit; nothing is run.

    A YAML is validated with all that it names. An ONNX file that holds a certificate must be as it
    was certified, with the verdict pass; one without is only read. Exits 2 when a file cannot be
    used, else 1 when a certificate does not hold, else 0.
    """
    code = in_a_child(*(path for path in files if path.suffix == ".onnx"))
    if code is not None:
        return code
    codes = [EXIT_PASS]
    for path in files:
        try:
            said = _of_onnx(path) if path.suffix == ".onnx" else _of_yaml(path)
        except UserInputError as error:
            click.echo(f"error: {error.render()}", err=True)
            codes.append(EXIT_USER_INPUT)
            continue
        if said:
            click.echo(said, err=True)
            codes.append(EXIT_PARITY_FAILED)
    return max(codes)


def _of_yaml(path: Path) -> str:
    from exporter.config import load_pipeline
    from exporter.config.load_system import is_system, load_system

    common.require_file(path, "FILE", "give the path of a pipeline YAML")
    load_system(path) if is_system(path) else load_pipeline(path)
    return ""


def _of_onnx(path: Path) -> str:
    from exporter.flows.inspect import inspect
    from exporter.report.inspection import NONE, inspection_lines

    common.require_file(path, "FILE", "give the path of an .onnx file")
    inspected = inspect(path, kernels=False)
    return (
        ""
        if inspected.state == NONE or inspected.verdict == "pass"
        else inspection_lines(inspected)[0]
    )
