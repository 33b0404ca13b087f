"""What ``run`` and ``verify`` do with a YAML that is a system of several graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.core.disk import refuse_undecodable
from exporter.core.errors import EXIT_PARITY_FAILED, UserInputError
from exporter.core.output_folder import check_output_folder

if TYPE_CHECKING:
    from exporter.config.run_options import RunOptions
    from exporter.config.system import System


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """How a command shows what it found: the options of the same names."""

    output_format: str = "text"
    junit: Path | None = None
    quiet: bool = False
    verbose: bool = False


def is_a_system(path: str) -> bool:
    """True for a YAML with ``graphs:``."""
    from exporter.config.load_system import is_system

    refuse_undecodable(Path(path), "PIPELINE")
    return is_system(path)


def run_a_system(
    path: str,
    options: RunOptions,
    shown: Shown,
    *,
    manifest: Path | None = None,
    jobs: int = 1,
    files: Mapping[str, Path] | None = None,
) -> int:
    """Run a system, print what was found, and return the exit code.

    Raises:
        UserInputError: YAML, options or files cannot be used.
    """
    if shown.junit is not None:
        raise UserInputError(
            "--junit is for a single pipeline, and this is a system of graphs",
            where=path,
            remedy="leave it out; --format json holds all of a system's report",
        )
    system = _opened(path, options)
    for name in files or {}:
        if name not in system.pipelines:
            known = ", ".join(system.pipelines)
            raise UserInputError(f"--onnx: there is no graph '{name}'", remedy=f"graphs: {known}")

    from exporter.flows.run_system import run_system, system_folder
    from exporter.report.progress import Progress
    from exporter.report.system_text import print_system

    folder = system_folder(system, options)
    check_output_folder(folder, keep=False)
    as_json = shown.output_format == "json"
    with Progress(quiet=shown.quiet or as_json, verbose=shown.verbose) as progress:
        given = {"files": files, "manifest": manifest, "jobs": jobs}
        report = run_system(system, options, progress=progress, **given)
    if as_json:
        click.echo(report.model_dump_json(indent=1))
    else:
        print_system(report, folder=folder, quiet=shown.quiet)
    return report.exit_code if report.exit_code else _clean(report.verdict)


def _clean(verdict: str) -> int:
    """0 for a pass and for nothing else, whatever a report says beside it."""
    from exporter.parity.status import Status

    return 0 if verdict == Status.PASS.value else EXIT_PARITY_FAILED


def _opened(path: str, options: RunOptions) -> System:
    from exporter.config.load_system import load_system

    if options.audio or options.weights is not None:
        option = "--audio" if options.audio else "--weights"
        raise UserInputError(
            f"{option} is for a single pipeline",
            remedy="give recordings by --manifest, weights in the pipelines of the graphs",
        )
    system = load_system(path)
    for pipeline in system.pipelines.values():
        options.opened(pipeline)
    return system


def only_of_systems(option: str, path: str) -> UserInputError:
    """What to raise for an option that a single pipeline does not have."""
    return UserInputError(
        f"{option} is for a system of graphs, and this is a single pipeline",
        where=path,
        remedy="write a system with 'graphs:' and a 'driver:'; see docs/several_graphs.md",
    )


def named_files(given: tuple[str, ...]) -> dict[str, Path]:
    """``graph=FILE`` of every ``--onnx`` of a system.

    Raises:
        UserInputError: one names no graph, or no file.
    """
    files: dict[str, Path] = {}
    for pair in given:
        name, equals, path = pair.partition("=")
        refuse_undecodable(Path(path), "--onnx")
        if not equals or not Path(path).is_file():
            raise UserInputError(
                f"--onnx: '{pair}' names no file of a graph",
                remedy="of a system write --onnx GRAPH=FILE, once for each graph",
            )
        files[name] = Path(path)
    return files
