"""A matrix from its file to its result: which cells, on which cluster, what they say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.cache.environments import FOLDER
from exporter.cache.place import cache_folder
from exporter.core.disk import writable_folder
from exporter.core.errors import UserInputError
from exporter.core.stages import Stages
from exporter.matrix.cells import Cell, Matrix, Space
from exporter.matrix.covering import pairwise
from exporter.matrix.engine import Engine
from exporter.matrix.explain import Explanation, explain
from exporter.matrix.jobs import VariantJob, cell_job, variant_job
from exporter.matrix.verdict import CellVerdict
from exporter.parity.exit_code import ExitDecision, decide


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixOptions:
    """What the command line says.

    Attributes:
        output_dir: None for ``runs/matrix-<name>``. scheduler: address; None: this machine.
        workers: of this machine; None: as many as fit. everything: no covering set, all cells.
        trust: let pipelines run code of their own.
        shard: which of how many parts is run, from 1; nothing is explained in one.
    """

    output_dir: Path | None = None
    scheduler: str | None = None
    workers: int | None = None
    everything: bool = False
    trust: bool = False
    shard: tuple[int, int] | None = None

    def whole(self, matrix: Matrix) -> bool:
        """Whether every cell is asked for."""
        return self.everything or matrix.file.coverage == "all"

    def folder(self, matrix: Matrix) -> Path:
        """Where cells, files and the report lie."""
        return (self.output_dir or Path("runs") / f"matrix-{matrix.file.name}").resolve()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a matrix came to.

    Attributes:
        cells: those that were asked, each with its verdict; of ``total`` that exist. first: how
            many of them came before anything had to be explained, which are ``chosen``.
        explanations: where cells fail, each by the smallest difference to those that pass.
    """

    name: str
    description: str
    space: Space
    total: int
    first: int
    chosen: str = "every pair of values stands together in one of them"
    cells: Mapping[Cell, CellVerdict] = field(default_factory=dict)
    explanations: tuple[Explanation, ...] = ()

    @property
    def decision(self) -> ExitDecision:
        """The verdict over all cells that were asked."""
        return decide((verdict.status, True) for verdict in self.cells.values())


class Cells:
    """Asks for cells, each once."""

    def __init__(self, matrix: Matrix, engine: Engine, progress: Stages, trust: bool) -> None:
        self.found: dict[Cell, CellVerdict] = {}
        self._matrix, self._engine, self._progress = matrix, engine, progress
        self._trust = trust
        self._variants: dict[str, VariantJob] = {}

    def __call__(self, cells: Iterable[Cell]) -> Mapping[Cell, CellVerdict]:
        """The verdicts of these cells."""
        asked = list(dict.fromkeys(cells))
        new = [cell for cell in asked if cell not in self.found]
        jobs = [
            (self._variant(cell), cell_job(self._matrix, cell), self._matrix.needs(cell))
            for cell in new
        ]
        for job, verdict in self._engine.ask(jobs, self._told):
            self.found[job.cell] = verdict
            if verdict.bad:
                self._progress.note(f"{verdict.status.value}: {job.cell.label()}")
        return {cell: self.found[cell] for cell in asked}

    def _told(self, done: int, total: int, remaining_s: float | None) -> None:
        left = "" if remaining_s is None else f", about {remaining_s:.0f} s left"
        self._progress.phase(f"{done} of {total} cells{left}", done, total)

    def _variant(self, cell: Cell) -> VariantJob:
        key = repr(sorted(self._matrix.variant(cell).items()))
        if key not in self._variants:
            self._variants[key] = variant_job(self._matrix, cell, trust=self._trust)
        return self._variants[key]


def run_matrix(matrix: Matrix, options: MatrixOptions, progress: Stages) -> Result:
    """Run a matrix; what is known from an earlier run is not run again.

    Raises:
        UserInputError: the folder cannot be written to, or nobody answers at the scheduler.
        SchedulerLostError: it went away; a second start goes on.
    """
    folder = options.folder(matrix)
    writable_folder(folder, "--output-dir")
    cache = cache_folder()
    engine = Engine(
        folder,
        (folder if cache is None else cache) / FOLDER,
        address=options.scheduler,
        workers=options.workers,
        memory_gib=matrix.file.memory_gib,
        timeout_s=matrix.file.cell_timeout_s,
    )
    total = sum(1 for _ in matrix.space.cells())
    chosen = chosen_cells(matrix, options)
    explanations: list[Explanation] = []
    with engine:
        progress.note(f"dashboard: {engine.dashboard}")
        ask = Cells(matrix, engine, progress, options.trust)
        with progress.stage("cells") as stage:
            ask(chosen)
            stage.result(f"{len(ask.found)} of {total}")
        if options.shard is None and any(verdict.bad for verdict in ask.found.values()):
            with progress.stage("explain") as stage:
                explanations = explain(matrix.space, ask, ask.found)
                stage.result(f"{len(ask.found) - len(chosen)} more cells")
    return Result(
        name=matrix.file.name,
        description=matrix.file.description,
        space=matrix.space,
        total=total,
        first=len(chosen),
        chosen=_chosen(matrix, options),
        cells=ask.found,
        explanations=tuple(explanations),
    )


def chosen_cells(matrix: Matrix, options: MatrixOptions) -> tuple[Cell, ...]:
    """The cells that are asked for whatever they say; of a shard only its own."""
    cells = tuple(matrix.space.cells()) if options.whole(matrix) else pairwise(matrix.space)
    if options.shard is None:
        return cells
    at, count = options.shard
    parts = shards(matrix, cells, count)
    if at > len(parts):
        raise UserInputError(
            f"--shard: there are {len(parts)} parts of {len(cells)} cells",
            remedy="take the numbers that --github prints",
        )
    return parts[at - 1]


def _chosen(matrix: Matrix, options: MatrixOptions) -> str:
    """What the cells are that came first, for a reader."""
    whole = "they are all" if options.whole(matrix) else Result.chosen
    if options.shard is None:
        return whole
    at, count = options.shard
    return f"they are part {at} of {count}, of which nothing is explained"


def shards(matrix: Matrix, cells: Sequence[Cell], most: int) -> list[tuple[Cell, ...]]:
    """Parts of nearly one size, at most ``most``; cells that share a file stay together."""
    count = max(1, min(most, len(cells)))
    parts: list[list[Cell]] = [[] for _ in range(count)]
    size = -(-len(cells) // count)
    at = 0
    for cell in sorted(cells, key=lambda cell: repr(sorted(matrix.variant(cell).items()))):
        if len(parts[at]) == size:
            at += 1
        parts[at].append(cell)
    return [tuple(part) for part in parts if part]
