"""Sparse initialisers are read as dense ones, as onnxruntime does, or refused with a remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporter.core.errors import ArtifactError
from exporter.execution.onnx_runs import FileRun
from exporter.golden.check import check_golden
from exporter.golden.store import write_golden
from exporter.graph import sparse
from exporter.graph.onnx_file import open_graph, read_model
from tests.golden import made


def with_sparse(
    values: np.ndarray, places: np.ndarray, dims: tuple[int, ...] = (96, 50)
) -> onnx.ModelProto:
    """The made model, its second weight sparse."""
    model = made.model()
    del model.graph.initializer[1]
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(values, "W2"), numpy_helper.from_array(places), list(dims)
    )
    model.graph.sparse_initializer.append(sparse)
    return model


def weight() -> np.ndarray:
    held = made.weights()[1].copy()
    held[::2] = 0
    return held


@pytest.mark.parametrize("by_row", [False, True])
def test_both_forms_of_places_are_read_as_onnxruntime_reads_them(tmp_path: Path, by_row: bool):
    dense = weight()
    flat = np.flatnonzero(dense)
    places = np.argwhere(dense) if by_row else flat
    model = with_sparse(dense.reshape(-1)[flat], places.astype(np.int64))
    path = made.write_onnx(tmp_path, model)
    assert np.array_equal(open_graph(path).array("W2"), dense)
    x = np.ones((3, 64), np.float32)
    hidden = np.maximum(x @ made.weights()[0], 0)
    found = FileRun(path).run({"x": x})["scores"]
    np.testing.assert_allclose(found, hidden @ dense, rtol=1e-4, atol=1e-5)


def test_nothing_but_zeros(tmp_path: Path):
    model = with_sparse(np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert not open_graph(made.write_onnx(tmp_path, model)).array("W2").any()


def test_a_golden_check_walks_a_sparse_file(tmp_path: Path):
    pipeline = made.pipeline(tmp_path)
    write_golden(made.golden(tmp_path, pipeline), tmp_path / "golden")
    dense = made.weights()[1]
    model = with_sparse(dense.reshape(-1), np.arange(dense.size, dtype=np.int64))
    outcome = check_golden(pipeline, tmp_path / "golden", made.write_onnx(tmp_path, model))
    assert outcome.exit_code == 0 and outcome.structure == ()


ONE = np.ones(1, np.float32)
DAMAGED = {
    "behind the end": (ONE, np.array([96 * 50]), (96, 50), "damaged"),
    "negative": (ONE, np.array([-1]), (96, 50), "damaged"),
    "too few places": (np.ones(2, np.float32), np.array([1]), (96, 50), "damaged"),
    "a place twice": (np.ones(2, np.float32), np.array([3, 3]), (96, 50), "has two values"),
    "too large": (ONE, np.array([1]), (1 << 20, 1 << 20), "too large"),
    "row behind the end": (ONE, np.array([[96, 1]]), (96, 50), "damaged"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damage_is_refused(tmp_path: Path, what: str):
    values, places, dims, words = DAMAGED[what]
    path = tmp_path / "m.onnx"
    model = with_sparse(values, np.array([1]), dims)
    model.graph.sparse_initializer[0].indices.CopyFrom(
        numpy_helper.from_array(places.astype(np.int64))
    )
    model.graph.sparse_initializer[0].values.CopyFrom(numpy_helper.from_array(values, "W2"))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=words) as caught:
        read_model(path)
    assert caught.value.remedy and "W2" in str(caught.value)


def test_many_that_are_too_large_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = with_sparse(ONE, np.array([1]), (96, 50))
    one = model.graph.sparse_initializer[0]
    for number in range(3):
        model.graph.sparse_initializer.append(one)
        model.graph.sparse_initializer[-1].values.name = f"more_{number}"
    monkeypatch.setattr(sparse, "MOST_BYTES", 4 * 96 * 50 * 4)
    sparse.make_dense(tmp_path, type(model).FromString(model.SerializeToString()))
    monkeypatch.setattr(sparse, "MOST_BYTES", 4 * 96 * 50 * 4 - 1)
    with pytest.raises(ArtifactError, match="too large"):
        sparse.make_dense(tmp_path, model)
