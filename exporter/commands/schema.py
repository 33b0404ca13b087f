"""``export-verify schema``: the JSON schema of a pipeline YAML."""

from __future__ import annotations

import json

import click


@click.command()
def command() -> None:
    """Print the JSON schema of a pipeline YAML, for editors.

    \b
    A pipeline points to it with its first line:
      # yaml-language-server: $schema=./schema.json
    """
    from exporter.config import pipeline_schema

    click.echo(json.dumps(pipeline_schema(), indent=2))
