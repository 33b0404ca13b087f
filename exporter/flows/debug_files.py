"""Take the value in which two ONNX files part out of both; nobody has their PyTorch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.core.errors import UserInputError
from exporter.core.files import replacing, temporary_folder
from exporter.core.stages import Stages
from exporter.core.tensors import Arrays
from exporter.debugging.between_files import lines_of, piece_of, write_between
from exporter.debugging.bundle import folder_name
from exporter.flows.compare import CompareOptions, compare
from exporter.flows.init_file import example_of
from exporter.graph.onnx_file import open_graph
from exporter.joining.same_interface import inputs_of_other, read_case
from exporter.parity.status import is_good
from exporter.report.progress import Progress
from exporter.report.two_files import TwoFiles, ValueRow


@dataclass(frozen=True, slots=True, kw_only=True)
class DebuggedFiles:
    """What came of it; ``folder`` is None where the files agree and nothing was asked for."""

    report: TwoFiles
    lines: tuple[str, ...]
    folder: Path | None

    @property
    def exit_code(self) -> int:
        """1 while the files differ."""
        return self.report.exit_code


def debug_files(
    truth: Path,
    other: Path,
    bundles: Path,
    *,
    case: Path | None = None,
    value: str | None = None,
    progress: Stages | None = None,
) -> DebuggedFiles:
    """Compare two files, and write a bundle for the first value that differs.

    Args:
        bundles: folder for the bundle. case: an .npz of inputs; drawn by default.
        value: a value of either file, instead of the first that differs.

    Raises:
        ArtifactError, UserInputError: as ``compare``; or no such value is joined.
    """
    progress = progress or Progress(quiet=True)
    a, b = open_graph(truth), open_graph(other)
    with temporary_folder() as folder:
        if case is None:
            inputs: Arrays = example_of(truth)
            case = folder / "case.npz"
            _save(case, inputs)
        inputs = read_case(case, a.inputs)
        report = compare(truth, other, CompareOptions(case=case), progress=progress)
    row = _chosen(report, value)
    if row is None:
        return DebuggedFiles(report=report, lines=(report.headline,), folder=None)
    joined = [
        joined_row
        for joined_row in report.values
        if is_good(joined_row.verdict) and joined_row is not row
    ]
    theirs = {name: inputs[ours] for name, ours in inputs_of_other(a, b, (truth, other)).items()}
    with progress.stage("cut the sub-graphs"):
        pieces = (
            piece_of(a, row.expected, {joined_row.expected for joined_row in joined}, inputs),
            piece_of(b, row.actual, {joined_row.actual for joined_row in joined}, theirs),
        )
    place = write_between(bundles / folder_name(row.actual), report, row, pieces, inputs)
    lines = (report.headline, *lines_of(report, row, pieces))
    return DebuggedFiles(report=report, lines=lines, folder=place)


def _save(path: Path, inputs: Mapping[str, np.ndarray]) -> None:
    with replacing(path) as part, part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **inputs)


def _chosen(report: TwoFiles, value: str | None) -> ValueRow | None:
    if value is None:
        return report.first
    names = {name for row in report.values for name in (row.expected, row.actual)}
    chosen_row = next((r for r in report.values if value in (r.actual, r.expected)), None)
    if chosen_row is None:
        near = difflib.get_close_matches(value, names, 3)
        raise UserInputError(
            f"no value '{value}' is joined in the two files",
            where="--layer",
            remedy=f"near: {', '.join(near)}" if near else "'compare -v' lists those that are",
        )
    return chosen_row
