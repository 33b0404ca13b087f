"""The command line: finds the subcommands, and turns how they end into an exit code.

0 pass, 1 parity failed, 2 the user's input is wrong, 3 a bug of ours, 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

import exporter.commands
from exporter import __version__
from exporter.core.disk import disk_error
from exporter.core.errors import (
    EXIT_PASS,
    EXIT_USER_INPUT,
    UserInputError,
    exit_code,
    missing_package,
)
from exporter.core.threads import let_waiting_threads_sleep

EXIT_INTERRUPTED = 130


class CommandFiles(click.Group):
    """A group whose subcommands are the files of ``exporter/commands``, imported when needed.

    A file ``name.py`` there holds ``command``, a ``click.Command``; names with a leading
    underscore hold what commands share. Importing such a file must stay cheap.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        files = pkgutil.iter_modules(exporter.commands.__path__)
        return sorted(file.name for file in files if not file.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        return importlib.import_module(f"exporter.commands.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            if args[0].endswith((".yaml", ".yml")):
                raise click.UsageError(f"Say what to do with it: run {args[0]}", ctx) from error
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if near:
                message = f"No such command '{args[0]}'. Did you mean '{near[0]}'?"
                raise click.UsageError(message, ctx) from error
            raise


@click.group(
    cls=CommandFiles,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="export-verify")
def cli() -> None:
    """Export a speech pipeline as one ONNX graph and prove it against PyTorch, layer by layer.

    \b
    Exit codes: 0 pass, 1 parity failed, 2 your input is wrong, 3 a bug in export-verify.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; raises nothing.

    Args:
        arguments: without the program's name; ``None`` takes those of this process.
    """
    let_waiting_threads_sleep()
    try:
        result: Any = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="export-verify",
            standalone_mode=False,
        )
        return result if isinstance(result, int) else EXIT_PASS
    except click.ClickException as error:
        error.show()
        return EXIT_USER_INPUT
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except UserInputError as error:
        print(f"error: {_printable(error.render())}", file=sys.stderr)
        return exit_code(error)
    except Exception as error:  # noqa: BLE001 - the one place where errors end
        told = missing_package(error) or disk_error(error)
        if told is not None:
            print(f"error: {_printable(told.render())}", file=sys.stderr)
            return exit_code(told)
        print(f"This is a bug in export-verify {__version__}: {error}", file=sys.stderr)
        print("Please report it with the lines below.\n", file=sys.stderr)
        traceback.print_exception(error)
        return exit_code(error)


def _printable(text: str) -> str:
    """Replace what could steer a terminal; a file may put anything into its names."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def entry() -> None:
    """Console script ``export-verify``."""
    sys.exit(main())
