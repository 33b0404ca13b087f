"""``export-verify cache``: what earlier runs have left for the next one, and taking it away."""

from __future__ import annotations

import json

import click

from exporter.commands import _options as common
from exporter.core.errors import EXIT_PASS

_UNIT = 1e9


@click.group()
def command() -> None:
    """Exports that are kept, so that a second run need not make them again.

    \b
    They lie in the user's cache folder; EXPORT_VERIFY_CACHE=FOLDER names another one,
    EXPORT_VERIFY_CACHE=off switches the cache off, EXPORT_VERIFY_CACHE_SIZE=20GiB changes the
    10 GiB from which the export that was not used for longest goes.
    """


@command.command()
@common.format_option
def info(output_format: str) -> int:
    """Where the cache lies, how full it is, and what it holds."""
    from exporter.cache.store import open_store
    from exporter.report.safe_text import printable

    store = open_store()
    if output_format == "json":
        stored = (
            None
            if store is None
            else [
                {"key": e.key, "bytes": e.bytes, "made": e.made, "used": e.used_at, "of": e.label}
                for e in store.entries()
            ]
        )
        place = None if store is None else str(store.root)
        click.echo(json.dumps({"folder": place, "exports": stored}, indent=1, default=str))
        return EXIT_PASS
    if store is None:
        click.echo("the cache is off")
        return EXIT_PASS
    entries = store.entries()
    stored = sum(entry.bytes for entry in entries)
    click.echo(f"{store.root}")
    click.echo(
        f"{len(entries)} exports, {stored / _UNIT:.2f} GB of at most {store.limit / _UNIT:.2f} GB"
    )
    for entry in entries:
        click.echo(
            f"  {entry.key[:12]}  {entry.bytes / _UNIT:8.3f} GB  made {entry.made}"
            f"  last used {entry.used_at}  {printable(entry.label)}"
        )
    return EXIT_PASS


@command.command()
def clear() -> int:
    """Take away every export that no run is reading at this moment."""
    from exporter.cache.store import open_store

    store = open_store()
    if store is None:
        click.echo("the cache is off")
        return EXIT_PASS
    gone = store.clear()
    stayed = f"; {gone.in_use} in use stayed" if gone.in_use else ""
    click.echo(f"{gone.entries} exports, {gone.bytes / _UNIT:.2f} GB taken away{stayed}")
    return EXIT_PASS
