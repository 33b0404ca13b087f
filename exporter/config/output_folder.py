"""Where a run leaves its files, and what another command is told to find them."""

from __future__ import annotations

from pathlib import Path

from exporter.config.pipeline import Pipeline


def default_output_dir(pipeline: Pipeline) -> Path:
    """``runs/<pipeline>`` below the working directory."""
    return Path("runs") / pipeline.name


def run_options(pipeline: Pipeline, output_dir: Path, weights: str | None) -> list[str]:
    """What another command has to be given to find the same run; [] where defaults do."""
    found = []
    if output_dir != default_output_dir(pipeline):
        found += ["--output-dir", str(output_dir)]
    if weights is not None:
        found += ["--weights", weights]
    return [*found, "--trust"] if pipeline.model.factory is not None else found
