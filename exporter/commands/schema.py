"""``export-verify schema``: the JSON schema of a pipeline YAML."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--system", is_flag=True, help="Of a system of several graphs.")
def command(system: bool) -> None:
    """Print the JSON schema of a pipeline YAML, for editors.

    \b
    A pipeline points to it with its first line:
      # yaml-language-server: $schema=./schema.json
    """
    from exporter.config.json_schema import pipeline_schema, system_schema

    click.echo(json.dumps(system_schema() if system else pipeline_schema(), indent=2))
