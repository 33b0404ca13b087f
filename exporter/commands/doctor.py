"""``export-verify doctor``: what this installation and this machine have, and what is wrong."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby

import click

from exporter.commands import _options as common
from exporter.core.errors import EXIT_PASS, EXIT_USER_INPUT


@click.command()
@common.format_option
def command(output_format: str) -> int:
    """Look at versions, onnxruntime, providers, threads, memory and cache.

    A session is made on every provider that this machine has. Exits 0 when nothing stops a
    command, 2 when something does.
    """
    from exporter.flows.doctor import examine

    examined = examine()
    wrong = [row for row in examined if row.wrong]
    if output_format == "json":
        click.echo(json.dumps([asdict(row) for row in examined], indent=1))
    else:
        for part, group in groupby(examined, key=lambda item: item.part):
            click.echo(part)
            for row in group:
                mark = "!" if row.wrong else " "
                click.echo(f" {mark} {row.name:<20} {row.value}")
                if row.remedy:
                    click.echo(f"   {'':<20} {row.remedy}")
        click.echo(f"{len(wrong)} thing(s) to mend" if wrong else "nothing is wrong")
    return EXIT_USER_INPUT if wrong else EXIT_PASS
