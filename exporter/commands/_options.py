"""Options that mean the same in every command that has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exporter.core.errors import UserInputError

if TYPE_CHECKING:
    from exporter.config import Pipeline

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class ByteSize(click.ParamType):
    """``1GiB``, ``512MiB``, ``2G`` or a number of bytes, as ``int``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?)?b?\s*", str(value), re.IGNORECASE)
        size = float(match[1]) * _UNITS[(match[2] or "").lower()] if match else 0
        if size < 1:
            self.fail(f"'{value}' is no size; write for example 1GiB or 512MiB", param, ctx)
        return int(size)


pipeline_argument = click.argument("pipeline_path", metavar="PIPELINE", type=click.Path())
output_dir_option = click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for what is made.  [default: runs/<pipeline>]",
)
provider_option = click.option(
    "--provider",
    metavar="NAME",
    help="Where onnxruntime runs: cpu or cuda.  [default: all that this machine has]",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of torch and onnxruntime."
)
memory_budget_option = click.option(
    "--memory-budget",
    type=ByteSize(),
    help="What compared values may hold beyond the weights, for example 1GiB.",
)
weights_option = click.option(
    "--weights",
    metavar="SOURCE",
    help="'seeded', a checkpoint, or hub:ORG/NAME@REVISION, instead of the pipeline's.",
)
audio_option = click.option(
    "--audio",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A recording of yours, judged as one more case. Repeatable.",
)
trust_option = click.option(
    "--trust", is_flag=True, help="Run the code that the pipeline's 'factory' names."
)


cache_option = click.option(
    "--no-cache",
    "cache",
    flag_value=False,
    default=True,
    help="Make everything anew, and keep nothing of it for the next run.",
)
golden_dir_option = click.option(
    "--golden-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("golden"),
    show_default=True,
    help="Folder that holds one golden per pipeline.",
)


def case_options(command: F) -> F:
    """``--case NAME`` (repeatable) and ``--all-cases``."""
    command = click.option("--all-cases", is_flag=True, help="Every case of the pipeline.")(command)
    return click.option(
        "--case",
        "cases",
        multiple=True,
        metavar="NAME",
        help="A case of the pipeline. Repeatable.  [default: its default_case]",
    )(command)


def verbosity_options(command: F) -> F:
    """``--quiet`` and ``--verbose``."""
    command = click.option("-v", "--verbose", is_flag=True, help="Say more while it runs.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="Print the verdict only.")(command)


def open_pipeline(path: str, *, trust: bool = False, cases: tuple[str, ...] = ()) -> Pipeline:
    """Load a pipeline for a command, before anything heavy is imported.

    Args:
        path: the YAML.
        trust: ``--trust`` was given.
        cases: values of ``--case``, checked to exist.

    Raises:
        ConfigError: the YAML is wrong.
        UserInputError: it names code to run and ``--trust`` is missing, or a case is unknown.
    """
    from exporter.config import load_pipeline

    pipeline = load_pipeline(path, trust=trust)
    if pipeline.model.factory is not None and not trust:
        raise UserInputError(
            f"this pipeline runs code: {pipeline.model.factory}",
            where=pipeline.where("model", "factory"),
            remedy="read that code, then add --trust",
        )
    known = [case.name for case in pipeline.cases]
    for name in cases:
        if name not in known:
            raise UserInputError(
                f"--case {name}: this pipeline has no such case",
                where=pipeline.where("cases"),
                remedy=f"its cases: {', '.join(known)}",
            )
    return pipeline


def require_file(path: Path, option: str, remedy: str) -> None:
    """Check that a file exists.

    Raises:
        UserInputError: it does not.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserInputError(f"{option}: '{path}' {what}", remedy=remedy)
