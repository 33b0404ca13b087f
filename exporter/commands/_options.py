"""Options that mean the same in every command that has them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from exporter.commands import _complete
from exporter.core.disk import refuse_undecodable, size_in_bytes, writable_folder
from exporter.core.errors import UserInputError
from exporter.core.files import refuse_special
from exporter.core.output_folder import check_output_folder

if TYPE_CHECKING:
    from exporter.config import Pipeline
    from exporter.config.run_options import RunOptions

F = TypeVar("F", bound=Callable[..., Any])
_MOST_DIGITS = 18


class ByteSize(click.ParamType):
    """``1GiB``, ``512MiB``, ``2G`` or a number of bytes, as ``int``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        return size_in_bytes(str(value)) or self.fail(
            f"'{value}' is no size; write for example 1GiB or 512MiB", param, ctx
        )


pipeline_argument = click.argument(
    "pipeline_path", metavar="PIPELINE", type=click.Path(), shell_complete=_complete.pipelines
)
golden_dir_option = click.option(
    "--golden-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("golden"),
    show_default=True,
    help="Folder that holds one golden per pipeline.",
)


format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="json: all of it on standard output, for programs.",
)
junit_option = click.option(
    "--junit", type=click.Path(path_type=Path), help="Write JUnit XML there."
)


def _cases_option(text: str) -> Callable[[F], F]:
    return click.option(
        "--case",
        "cases",
        multiple=True,
        metavar="NAME",
        shell_complete=_complete.cases,
        callback=lambda ctx, param, value: value or None,
        help=text,
    )


_FIELDS = {"case": "cases", "golden_cases": "cases"}
_RUN_OPTIONS = {
    "output_dir": click.option(
        "--output-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for what is made.  [default: runs/<pipeline>]",
    ),
    "case": click.option(
        "--case",
        "cases",
        metavar="NAME",
        shell_complete=_complete.cases,
        callback=lambda ctx, param, value: (value,) if value else None,
        help="The case of which inputs are taken.",
    ),
    "cases": _cases_option("A case of the pipeline. Repeatable.  [default: its default_case]"),
    "golden_cases": _cases_option("Only this case. Repeatable."),
    "all_cases": click.option("--all-cases", is_flag=True, help="Every case of the pipeline."),
    "audio": click.option(
        "--audio",
        multiple=True,
        type=click.Path(path_type=Path),
        help="A recording of yours, judged as one more case. Repeatable.",
    ),
    "weights": click.option(
        "--weights",
        metavar="SOURCE",
        help="'seeded', a checkpoint, or hub:ORG/NAME@REVISION, instead of the pipeline's.",
    ),
    "provider": click.option(
        "--provider",
        metavar="NAME",
        help="Where onnxruntime runs: cpu or cuda.  [default: all that this machine has]",
    ),
    "threads": click.option(
        "--threads", type=click.IntRange(min=1, max=1024), help="Threads of torch and onnxruntime."
    ),
    "memory_budget": click.option(
        "--memory-budget",
        type=ByteSize(),
        help="What compared values may hold beyond the weights, for example 1GiB.",
    ),
    "golden_dir": golden_dir_option,
    "cache": click.option(
        "--no-cache",
        "cache",
        flag_value=False,
        default=True,
        help="Make everything anew, and keep nothing of it for the next run.",
    ),
    "bench": click.option(
        "--bench/--no-bench",
        default=True,
        help="Measure time and memory of the shipped file as well.  [default: bench]",
    ),
    "trust": click.option(
        "--trust", is_flag=True, help="Run the code that the pipeline's 'factory' names."
    ),
}


def run_options(names: str) -> Callable[[F], F]:
    """Options of a run, as one ``options: RunOptions`` for the command that it decorates.

    Args:
        names: fields of ``RunOptions``, apart by spaces; "case" and "golden_cases" are
            ``cases`` in other words.
    """

    wanted = names.split()

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def gathered(**given: Any) -> Any:
            from exporter.config.run_options import RunOptions

            fields = {name: given.pop(name) for name in (_FIELDS.get(n, n) for n in wanted)}
            return command(options=RunOptions(**fields), **given)

        for name in reversed(wanted):
            _RUN_OPTIONS[name](gathered)
        return cast(F, gathered)

    return decorate


def verbosity_options(command: F) -> F:
    """``--quiet`` and ``--verbose``."""
    command = click.option("-v", "--verbose", is_flag=True, help="Say more while it runs.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="Print the verdict only.")(command)


def open_pipeline(path: str, options: RunOptions, *, writes: bool = True) -> Pipeline:
    """Load a pipeline for a command, before anything heavy is imported.

    Args:
        writes: the command writes to the output folder, which is checked here.

    Raises:
        ConfigError: the YAML is wrong.
        UserInputError: it names code to run and ``--trust`` is missing, a case is unknown, or the
            output folder cannot be written to.
    """
    from exporter.cases.load import choose_cases

    refuse_undecodable(Path(path), "PIPELINE")
    for audio in options.audio:
        refuse_undecodable(audio, "--audio")
    pipeline = options.opened(path)
    choose_cases(pipeline, options.cases)
    if writes:
        check_output_folder(options.folder(pipeline), keep=False)
    return pipeline


def junit_place(path: Path | None) -> None:
    """Check that ``--junit`` can be written, before any work is done.

    Raises:
        UserInputError: it cannot.
    """
    if path is not None:
        writable_folder(path.parent, "--junit")
        refuse_special(path)


def require_file(path: Path, option: str, remedy: str) -> None:
    """Check that a file exists.

    Raises:
        UserInputError: it does not.
    """
    refuse_undecodable(path, option)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserInputError(f"{option}: '{path}' {what}", remedy=remedy)


def axis_size(text: str) -> tuple[str, int]:
    """``frames=40`` of ``--size``.

    Raises:
        UserInputError: it is no such pair.
    """
    name, _, number = text.rpartition("=")
    if not name or not number.isdecimal() or len(number) > _MOST_DIGITS or int(number) < 1:
        raise UserInputError(
            f"--size: '{text}' is no AXIS=N", remedy="for example --size frames=40"
        )
    return name, int(number)


def with_file(pipeline: Pipeline, path: Path) -> Pipeline:
    """A YAML that describes a file, for another file of the same interface.

    Raises:
        UserInputError: it describes no file.
    """
    if pipeline.file_alone is None:
        raise UserInputError(
            "this pipeline has a model of PyTorch and describes no file",
            where=pipeline.where("model"),
            remedy=f"'export-verify init {path}' writes one; 'verify' holds a file against PyTorch",
        )
    return pipeline.with_file(path)
