"""What is asked for, held against the pipeline and this machine, before anything is made."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from exporter.cases.load import choose_cases
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import UserInputError
from exporter.execution.declared_deployments import declared_deployments
from exporter.execution.deployment import Deployment
from exporter.report.environment import default_memory_budget, usable_cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A pipeline with its options, resolved.

    Attributes:
        pipeline: trusted, with the weights and the recordings that the options name.
        folder: for what is made.
        cases: names, in the order in which they are run.
        deployments: how the judged file is run; the first one also runs the layers.
        threads: of torch, and of deployments that say no number of their own.
        budget: bytes that compared values may hold beyond the weights.
    """

    pipeline: Pipeline
    options: RunOptions
    folder: Path
    cases: tuple[str, ...]
    deployments: tuple[Deployment, ...]
    threads: int
    budget: int

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers of the deployments, each once."""
        return tuple(dict.fromkeys(deployment.provider for deployment in self.deployments))


def prepare(pipeline: Pipeline | Path | str, options: RunOptions) -> Prepared:
    """Resolve what is asked for.

    Raises:
        UserInputError: pipeline, case, recording or provider cannot be used.
    """
    pipeline = options.opened(pipeline)
    chosen = choose_cases(pipeline, options.cases, all_cases=options.all_cases)
    for path in dict.fromkeys(options.audio):
        name = _case_name(path, {case.name for case in pipeline.cases})
        if not path.is_file():
            raise UserInputError(f"--audio: '{path}' is not a file", remedy="give a recording")
        pipeline = pipeline.with_recording(name, path.resolve())
        chosen = (*chosen, name)
    cores = options.threads or usable_cores()
    return Prepared(
        pipeline=pipeline,
        options=options,
        folder=options.folder(pipeline),
        cases=chosen,
        deployments=declared_deployments(pipeline, options.provider, cores),
        threads=cores,
        budget=options.memory_budget or default_memory_budget(),
    )


def _case_name(path: Path, taken: set[str]) -> str:
    """A name as cases have it; one that tells the recording apart where its own is not in ASCII."""
    kept = path.stem.isascii()
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in path.stem)
    name = f"audio_{stem[:60]}"
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:6]
    return name if kept and name not in taken else f"{name}_{digest}"
