"""How a pipeline is run: one record that every flow takes, whoever calls it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from exporter.config.load_system import load_graph
from exporter.config.pipeline import Pipeline
from exporter.core.errors import UserInputError
from exporter.core.output_folder import output_folder
from exporter.core.stages import Stages

MOST_THREADS = 1024
"""More threads than this no library starts: it would end the process."""


class RunOptions(BaseModel):
    """What the options of the command line say, under the same names; a flow reads what it needs.

    Attributes:
        output_dir: folder for what is made; None for ``runs/<pipeline>``.
        cases: names of cases; None for the default one (goldens: for all). all_cases: all of them.
        audio: recordings to add as cases.
        weights: replaces the pipeline's own.
        provider: "cpu", "cuda"; None for every one that this machine has.
        threads: intra-op threads of torch and onnxruntime; None for all cores.
        memory_budget: bytes that compared values may hold beyond the weights; None: a share of
            the machine's.
        trust: let the pipeline run the code that its ``model.factory`` names.
        cache: take what an earlier run made of exactly the same, and keep what this one makes;
            see ``exporter.cache.place`` for where.
        bench: measure time and memory of the shipped file as well.
        golden_dir: folder that holds one golden per pipeline.

    Raises:
        ValidationError: a value that an option cannot have (pydantic's; the flows raise
            ``UserInputError`` for fields that are given to them).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    output_dir: Path | None = None
    cases: tuple[str, ...] | None = None
    all_cases: bool = False
    audio: tuple[Path, ...] = ()
    weights: str | None = None
    provider: str | None = None
    threads: int | None = Field(default=None, ge=1, le=MOST_THREADS)
    memory_budget: int | None = Field(default=None, ge=1)
    trust: bool = False
    cache: bool = True
    bench: bool = False
    golden_dir: Path = Path("golden")

    @classmethod
    def given(cls, options: RunOptions | None, fields: Mapping[str, Any]) -> RunOptions:
        """The options that a flow was called with: a record, single fields of one, or both.

        Raises:
            UserInputError: there is no such field, or it cannot have this value.
        """
        if not fields:
            return options or cls()
        values = {} if options is None else dict(options)
        try:
            return cls.model_validate({**values, **fields})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise UserInputError(
                f"option {name}: {first['msg']}",
                remedy=f"the options are: {', '.join(cls.model_fields)}",
            ) from error

    def opened(self, pipeline: Pipeline | Path | str) -> Pipeline:
        """The pipeline as these options have it: read if it is a path, trusted, other weights.

        Raises:
            ConfigError: the YAML is wrong.
            UserInputError: it names code to run, and nobody has said that it may.
        """
        if not isinstance(pipeline, Pipeline):
            pipeline = load_graph(pipeline)
        if self.trust:
            pipeline = pipeline.with_trust()
        if pipeline.model.factory is not None and not pipeline.trusted:
            raise UserInputError(
                f"this pipeline runs code: {pipeline.model.factory}",
                where=pipeline.where("model", "factory"),
                remedy="read that code, then add --trust (from Python: trust=True)",
            )
        return pipeline if self.weights is None else pipeline.with_weights(self.weights)

    def folder(self, pipeline: Pipeline) -> Path:
        """Where the files of a run lie."""
        return self.output_dir or _default_folder(pipeline)

    def taken(
        self, pipeline: Pipeline, progress: Stages, *, writes: bool = True
    ) -> contextlib.AbstractContextManager[None]:
        """The folder of a run, for this process alone; see ``exporter.core.output_folder``."""
        return output_folder(
            self.folder(pipeline), pipeline=pipeline.name, say=progress.note, writes=writes
        )

    def words(self, pipeline: Pipeline) -> list[str]:
        """What another command has to be given to find the same run; [] where defaults do."""
        options = []
        if self.folder(pipeline) != _default_folder(pipeline):
            options += ["--output-dir", str(self.output_dir)]
        if self.weights is not None:
            options += ["--weights", self.weights]
        return [*options, "--trust"] if pipeline.model.factory is not None else options


def _default_folder(pipeline: Pipeline) -> Path:
    return Path("runs") / pipeline.name
