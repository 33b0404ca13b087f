"""A matrix over the network of ``tests.golden.made``, whose file is there: it needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

from exporter.golden.store import write_golden
from exporter.matrix.cells import Cell, Matrix
from exporter.matrix.jobs import cell_job, code_digest, variant_job
from exporter.matrix.load import load_matrix
from exporter.matrix.make_process import MADE, digests_of
from exporter.matrix.verdict import CellVerdict, MadeVariant, written
from exporter.matrix.work import FILES, Workspace, judge
from exporter.parity.status import Status
from tests.golden import made

TEXT = """\
name: toy
pipelines: [made.yaml]
axes:
  threads: [1, 2]
  level: [disable, all]
"""


def matrix(folder: Path, text: str = TEXT) -> Matrix:
    """The matrix of a text, beside its pipeline and golden."""
    pipeline = made.pipeline(folder)
    if not (folder / "golden" / "made").exists():
        write_golden(made.golden(folder, pipeline), folder / "golden" / "made")
        made.write_onnx(folder)
    path = folder / "toy.yaml"
    path.write_text(text, encoding="utf-8")
    return load_matrix(path)


def made_file(folder: Path, change: Callable[[onnx.ModelProto], None] | None = None) -> MadeVariant:
    """The file of the matrix, changed or not."""
    model = made.model()
    if change is not None:
        change(model)
    path = made.write_onnx(folder, model)
    return MadeVariant(
        digest="made",
        status=Status.PASS,
        yaml=str(folder / "made.yaml"),
        onnx=str(path),
        golden=str(folder / "golden" / "made"),
        content=digests_of(path, folder / "golden" / "made"),
        folder=str(folder),
    )


def put_files(held: Matrix, folder: Path, out: Path) -> None:
    """Lay down the file of every variant, as if an earlier run had made it."""
    for cell in held.space.cells():
        name = variant_job(held, cell, trust=False).name
        (out / FILES / name).mkdir(parents=True, exist_ok=True)
        written(made_file(folder).model_copy(update={"digest": name}), out / FILES / name / MADE)


def place(folder: Path, run: str = "one") -> Workspace:
    """Where cells go."""
    return Workspace(
        folder=folder / "out",
        environments=folder / "environments",
        run=run,
        code=code_digest(),
        timeout_s=60,
    )


def judged(held: Matrix, cell: Cell, at: Workspace, file: MadeVariant) -> CellVerdict:
    """A cell, judged in this process's own Python."""
    return judge(at, cell_job(held, cell), file)
