"""One run of a toy, and its golden, that the attempts copy and tamper with."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter.config import load_pipeline
from exporter.flows import golden_record
from exporter.flows.run import run
from tests.support.stages import Silent
from tests.support.toy_project import project


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """A pipeline, the folder of its run, and the folder of its golden."""

    yaml: Path
    runs: Path
    golden: Path

    @property
    def run(self) -> Path:
        """Where the run of this pipeline lies."""
        return self.runs / "toy"

    @property
    def model(self) -> Path:
        """What it shipped."""
        return self.run / "model.onnx"


def _toy(folder: Path) -> Toy:
    return Toy(yaml=folder / "toy.yaml", runs=folder / "runs", golden=folder / "golden")


@pytest.fixture(scope="session")
def toy_made(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Made once; nobody may change anything in it."""
    made = _toy(tmp_path_factory.mktemp("toy"))
    project(made.yaml.parent)
    pipeline = load_pipeline(made.yaml, trust=True)
    run(pipeline, output_dir=made.run, progress=Silent(), trust=True, cache=False)
    golden_record.record(
        pipeline,
        reason="tests",
        golden_dir=made.golden,
        output_dir=made.run,
        progress=Silent(),
        from_run=True,
    )
    return made


@pytest.fixture
def toy(toy_made: Toy, tmp_path: Path) -> Toy:
    """A copy that may be tampered with."""
    shutil.copytree(toy_made.yaml.parent, tmp_path / "toy")
    return _toy(tmp_path / "toy")
