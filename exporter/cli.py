"""The command line: finds the subcommands, and turns how they end into an exit code.

0 pass, 1 parity failed, 2 the user's input is wrong, 3 a bug of ours, 130 interrupted
(143 by SIGTERM, 129 by SIGHUP).
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from typing import Any, TextIO, cast

import click

import exporter.commands
from exporter import __version__
from exporter.commands._child import Words
from exporter.core.errors import EXIT_PASS, EXIT_USER_INPUT, exit_code
from exporter.core.interrupts import end_at_signals, wait_if_ending
from exporter.core.threads import let_waiting_threads_sleep
from exporter.core.users_fault import users_fault

EXIT_INTERRUPTED = 130


class CommandFiles(click.Group):
    """A group whose subcommands are the files of ``exporter/commands``, imported when needed.

    A file ``name.py`` there holds ``command``, a ``click.Command``; names with a leading
    underscore hold what commands share. Importing such a file must stay cheap.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        files = pkgutil.iter_modules(exporter.commands.__path__)
        names = (file.name for file in files if not file.name.startswith("_"))
        return sorted(name.replace("_", "-") for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        file = cmd_name.replace("-", "_")
        return importlib.import_module(f"exporter.commands.{file}").command

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
    _let_anything_be_printed()
    with contextlib.redirect_stdout(cast(Any, _Output(sys.stdout))):
        return _ended(arguments)


def _ended(arguments: Sequence[str] | None) -> int:
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        result: Any = cli.main(
            args=words, prog_name="export-verify", standalone_mode=False, obj=Words(words)
        )
        # What stays in the buffer until Python ends would fail where nobody looks.
        sys.stdout.flush()
        return result if isinstance(result, int) else EXIT_PASS
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the one place where errors end
        wait_if_ending()
        return _tell(error)


def _tell(error: Exception) -> int:
    """Say on standard error what went wrong, and return the exit code."""
    if isinstance(error, click.ClickException):
        error.show()
        return EXIT_USER_INPUT
    told = users_fault(error)
    if told is not None:
        print(f"error: {_printable(told.render())}", file=sys.stderr)
        if isinstance(error, OSError) and error.filename is None:
            _forget_output()  # it may be standard output whose disk is full
        return exit_code(told)
    print(f"This is a bug in export-verify {__version__}: {error}", file=sys.stderr)
    print("Please report it with the lines below.\n", file=sys.stderr)
    traceback.print_exception(error)
    return exit_code(error)


class _Output:
    """Standard output; when its reader has gone, what is printed goes nowhere.

    ``export-verify run ... | head -1`` has read what it wanted: the files are written all the
    same, and the exit code is the verdict's.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, printed: str) -> int:
        try:
            return self._stream.write(printed)
        except BrokenPipeError:
            _forget_output()
            return len(printed)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            _forget_output()


def _let_anything_be_printed() -> None:
    """A name that the terminal's encoding does not have is shown as its code, and no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """Let Python's own last flush of standard output go nowhere, and not fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _printable(text: str) -> str:
    """Replace what could steer a terminal; a file may put anything into its names."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def entry() -> None:
    """The process of a command: signals end it, and the exit code is that of ``main``."""
    end_at_signals()
    sys.exit(main())
