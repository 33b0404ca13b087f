"""``export-verify list``: the models and pipelines that are known."""

from __future__ import annotations

import json
from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.core.errors import ConfigError


@click.command()
@common.format_option
def command(output_format: str) -> None:
    """Show the models that a pipeline can name, and the pipelines in pipelines/.

    Those that come with the package are run by name: export-verify run sensevoice_tiny.
    """
    from exporter.models import MODELS

    if output_format == "json":
        folder = pipelines_folder()
        paths = sorted(folder.glob("*.yaml")) if folder else []
        content = {"models": sorted(MODELS), "pipelines": {str(p): _summary(p) for p in paths}}
        click.echo(json.dumps(content, indent=1))
        return
    click.echo("models (model.kind in a pipeline)")
    for name in sorted(MODELS):
        click.echo(f"  {name}")
    folder = pipelines_folder()
    if folder is None:
        click.echo("pipelines: there is no folder pipelines/ here")
        return
    click.echo(f"pipelines (in {folder})")
    for path in sorted(folder.glob("*.yaml")):
        click.echo(f"  {path.name:<28} {_summary(path)}")


def pipelines_folder() -> Path | None:
    """``pipelines/`` of the working directory, else the one that comes with the package."""
    from exporter.config.shipped import shipped_folder

    here = Path("pipelines")
    return here if here.is_dir() else shipped_folder()


def _summary(path: Path) -> str:
    from exporter.config import load_pipeline

    try:
        pipeline = load_pipeline(path)
    except ConfigError as error:
        return f"cannot be used: {error.problem.splitlines()[0]} ({error.where})"
    return pipeline.description or pipeline.model.kind or f"factory {pipeline.model.factory}"
