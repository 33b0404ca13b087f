"""A user's own model in a folder of its own, run as a whole; what the tool told."""

from __future__ import annotations

import re
from pathlib import Path

from exporter import load_pipeline, run
from exporter.core.errors import ExportVerifyError, exit_code
from exporter.report.schema import Report
from tests.false_passes.way import Told
from tests.support.stages import Silent

HEAD = """\
import torch
from torch import nn
from torch.nn import functional as F

W = 8
"""
YAML = """\
name: toy
model: {factory: "MODULE:Model"}
inputs:
  x: {dtype: float32, shape: [batch, frames, 8]}
axes: {frames: {minimum: 4, example: 40}}
outputs: [y]
cases:
  - name: one
    random: {x: {kind: normal, seed: 1, sizes: {batch: 3, frames: 50}}}
default_case: one
"""


def write(folder: Path, code: str, yaml: str = YAML) -> Path:
    """The pipeline of a class ``Model`` whose body is ``code``.

    The module has the folder's name: one process imports many of them.
    """
    name = re.sub(r"\W", "_", f"m_{folder.name}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(HEAD + code)
    path = folder / "toy.yaml"
    path.write_text(yaml.replace("MODULE", name))
    return path


def report_of(path: Path, **options: object) -> Report:
    """Run a pipeline; its report."""
    return run(
        load_pipeline(path),
        output_dir=path.parent / "out",
        progress=Silent(),
        trust=True,
        threads=1,
        cache=False,
        **options,  # type: ignore[arg-type]
    )


def told(path: Path) -> Told:
    """Run a pipeline; what the tool said in the first line, or why it refused."""
    try:
        report = report_of(path)
    except ExportVerifyError as error:
        return Told(exit_code=exit_code(error), text=str(error))
    return Told(exit_code=report.exit_code, text=report.headline)
