"""A finished run to debug against, and files that were tampered with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from exporter.config import load_pipeline
from exporter.debugging.pair import Pair, load_pair
from exporter.execution.deployment import Deployment
from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.onnx_file import read_model
from tests.faults.catalogue import GRAPH_FAULTS
from tests.support.tiny_run import TINY, TinyRun

Tamper = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="session")
def pair(tiny_run: TinyRun) -> Pair:
    """The shared run with its own file under test."""
    return load_pair(
        load_pipeline(TINY),
        tiny_run.folder,
        onnx_path=None,
        case="english",
        deployment=Deployment(threads=1),
    )


@pytest.fixture(scope="session")
def tamper(pair: Pair) -> Tamper:
    """``tamper("relu_removed", ...)`` -> the run's model with those faults of the catalogue."""

    def apply(*names: str) -> onnx.ModelProto:
        faults = {fault.name: fault for fault in GRAPH_FAULTS}
        model = read_model(pair.path)
        for name in names:
            model = faults[name].apply(model, pair.program)
        return model

    return apply


def indexed(model: onnx.ModelProto, pair: Pair) -> GraphIndex:
    """A tampered file as ``against`` takes it."""
    return index_graph(model, pair.path.parent)


@pytest.fixture
def folder_of(tiny_run: TinyRun, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the run's folder in which single files may be replaced."""

    def make(**replaced: bytes) -> Path:
        folder = tmp_path / "copied run"
        folder.mkdir()
        for name in ("model.onnx", "report.json", "program"):
            (folder / name).symlink_to(tiny_run.folder / name)
        for name, content in replaced.items():
            path = folder / name.replace("_", ".")
            path.unlink()
            path.write_bytes(content)
        return folder

    return make
