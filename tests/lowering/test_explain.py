"""Somebody else's lowered file: which layer broke it, and what restoring that one gains."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.build.artifacts import Artifacts
from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.execution.deployment import Deployment
from exporter.execution.quantisers import Order, write_lowered
from exporter.flows.run import run
from exporter.flows.verify import verify
from exporter.graph.onnx_file import open_graph
from exporter.lowering.explain import explain, in_words
from tests.lowering import toy
from tests.support.other_tools import renamed
from tests.support.stages import Silent

pytestmark = pytest.mark.slow
LOUD_FIRST = f"1. to restore to float32: {toy.LOUD}"
PRECISION = "parity: {precision: int8_weights}\n"


def test_the_layer_that_broke_it_is_first_and_restoring_it_helps(tmp_path: Path):
    path, out = toy.project(tmp_path), tmp_path / "out"
    run(path, progress=Silent(), output_dir=out, trust=True, threads=1, cache=False)
    own = Artifacts(folder=out)
    pipeline = load_pipeline(path).with_trust()
    (case,) = load_cases(pipeline, own.inputs, ("first",))
    for to in ("int8", "float16"):
        theirs = tmp_path / f"theirs.{to}.onnx"
        write_lowered(own.shipped, theirs, Order(to=to))
        graph, deployment = open_graph(theirs), Deployment(threads=1)
        found = explain(own.program, theirs, graph, own.graph, case, deployment, 1 << 28)
        assert found is not None and found.now.error is not None
        assert found.first, to
        restored = found.first[0].restored
        assert restored is not None and restored.error is not None
        if to == "int8":
            assert found.layers[0].layer.name == toy.LOUD
            assert restored.error < 0.5 * found.now.error
        assert "to restore to float32" in in_words(found)[1]
    plain = explain(
        own.program, own.shipped, own.graph, own.graph, case, Deployment(threads=1), 1 << 28
    )
    assert plain is None


def test_a_file_whose_names_are_gone_is_ranked_by_what_its_values_are(tmp_path: Path):
    out, theirs = tmp_path / "out", tmp_path / "theirs.onnx"
    run(toy.project(tmp_path), progress=Silent(), output_dir=out, trust=True, threads=1)
    write_lowered(out / "model.onnx", theirs, Order(to="int8"))
    path = toy.project(tmp_path / "int8", PRECISION)
    options = {"progress": Silent(), "output_dir": out, "trust": True, "threads": 1}
    found = []
    for file in (theirs, renamed(theirs)):
        report = verify(path, onnx=file, **options)
        found.append([note for note in report.notes if "to restore to float32" in note])
    assert len(found[0]) == 3
    assert LOUD_FIRST in found[0][0]
    assert [note.split(" (")[0] for note in found[1]] == [note.split(" (")[0] for note in found[0]]
    assert "measured with it restored" in found[1][0]
