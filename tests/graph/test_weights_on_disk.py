"""Models with external data: weights stay on disk, and the file computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.graph import onnx_file_writer
from exporter.graph.capture import capture
from exporter.graph.export import export
from exporter.graph.onnx_file import open_graph, read_model
from exporter.graph.onnx_file_writer import store_exported, store_shipped
from exporter.graph.simplify import simplify
from exporter.graph.stored_tensors import external_tensors
from exporter.graph.weights_on_disk import (
    FOLDED,
    simplify_stored,
    stored_weights,
)
from tests.support.toys import spec

WIDTH, INNER, WORDS = 512, 640, 700


class Wide(nn.Module):
    """A table and two layers above a megabyte each, and small weights around them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH)
        self.first = nn.Linear(WIDTH, INNER)
        self.second = nn.Linear(INNER, WIDTH, bias=False)
        self.norm = nn.LayerNorm(WIDTH)
        self.small = nn.Linear(WIDTH, 4)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        x = x + self.second(torch.relu(self.first(x)))
        # The same weight once more as it lies there, so that both forms of it are needed.
        return self.small(self.norm(x + (x @ self.first.weight.T) @ self.first.weight * 1e-3))


def exported(dtype: torch.dtype) -> tuple[Wide, ir.Model]:
    torch.manual_seed(0)
    module = Wide().to(dtype).eval().requires_grad_(False)
    name = str(dtype).removeprefix("torch.")
    outputs = (spec("y", name, "frames", 4),)
    made = export(
        capture(module, {"ids": torch.arange(5)}, {"ids": {0: torch.export.Dim("frames")}}),
        inputs=(spec("ids", "int64", "frames"),),
        outputs=outputs,
        opset=18,
    )
    return module, made.model


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_shipped_file_computes_the_same_and_holds_each_weight_once(
    tmp_path: Path, dtype: torch.dtype, outside: bool
):
    module, model = exported(dtype)
    held = [value.const_value for value in model.graph.initializers.values()]
    size = sum(value.nbytes for value in held if value is not None)
    metadata = {"made": "here"}
    before = model.graph.num_nodes()
    first, proto = store_exported(model, tmp_path / "exported.onnx", metadata, outside=outside)
    assert not any(len(tensor.raw_data) > 1 << 16 for tensor in proto.graph.initializer)
    found, weights = simplify_stored(proto, tmp_path)
    assert found.bytes_before == size
    assert (found.nodes_before, found.nodes_after) == (before, len(found.model.graph.node))
    shipped = store_shipped(
        found.model, weights, tmp_path / "model.onnx", metadata, outside=outside
    )
    assert size < first.bytes < size + 100_000
    ids = np.array([1, 5, 699, 0])
    truth = module(torch.from_numpy(ids)).float().numpy()
    for artifact in (first, shipped):
        assert artifact.metadata == {"made": "here"}
        assert list(artifact.external) == [f"{artifact.path.name}.data"] * outside
        onnx.checker.check_model(str(artifact.path), full_check=True)
        got = FileRun(artifact.path, Deployment(threads=1)).run({"ids": ids})["y"]
        tolerance = 1e-5 if dtype is torch.float32 else 2e-2
        np.testing.assert_allclose(got.astype(np.float32), truth, rtol=0, atol=tolerance)


def test_transposed_weights_are_stored_transposed(tmp_path: Path):
    module, model = exported(torch.float32)
    _, proto = store_exported(model, tmp_path / "exported.onnx", {}, outside=True)
    found, weights = simplify_stored(proto, tmp_path)
    store_shipped(found.model, weights, tmp_path / "model.onnx", {}, outside=True)
    graph = open_graph(tmp_path / "model.onnx")
    moved = [node for node in graph.nodes if node.op_type == "Transpose"]
    assert not [node for node in moved if node.input[0] in graph.initializers]
    turned = [name for name, weight in weights.items() if weight.perm == (1, 0)]
    assert turned
    held = [graph.array(name) for name in turned]
    assert any(np.array_equal(array, module.first.weight.numpy().T) for array in held)
    assert [name for name, weight in weights.items() if weight.perm is None]
    assert graph.inputs == ("ids",)


def test_small_weights_are_given_to_the_simplifier(tmp_path: Path):
    _, model = exported(torch.float32)
    _, proto = store_exported(model, tmp_path / "exported.onnx", {}, outside=True)
    found, weights = simplify_stored(proto, tmp_path)
    inside = {tensor.name for tensor in found.model.graph.initializer} - set(weights)
    small = [
        name
        for name, stored in stored_weights(proto, tmp_path).items()
        if np.prod(stored.dims) * 4 < FOLDED
    ]
    assert set(small) & inside
    assert all(np.prod(weight.dims) * 4 >= FOLDED for weight in weights.values())


def test_a_file_of_before_does_not_point_into_new_data(tmp_path: Path):
    _, model = exported(torch.float32)
    (tmp_path / "exported.onnx").write_bytes(b"old")
    (tmp_path / "exported.onnx.data").write_bytes(b"old")
    artifact, _ = store_exported(model, tmp_path / "exported.onnx", {}, outside=True)
    assert [tensor.name for tensor in external_tensors(read_model(artifact.path))]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("outside", [False, True])
def test_without_simplifying_the_weights_are_copied_as_they_are(tmp_path: Path, outside: bool):
    module, model = exported(torch.float32)
    _, proto = store_exported(model, tmp_path / "exported.onnx", {}, outside=outside)
    shipped = store_shipped(
        proto, stored_weights(proto, tmp_path), tmp_path / "model.onnx", {}, outside=True
    )
    graph = open_graph(shipped.path)
    names = [name for name in graph.initializers if name.endswith("table.weight")]
    assert np.array_equal(graph.array(names[0]), module.table.weight.numpy())
    (tmp_path / ("exported.onnx.data" if outside else "exported.onnx")).unlink()
    ids = np.array([3, 4])
    got = FileRun(shipped.path, Deployment(threads=1)).run({"ids": ids})["y"]
    np.testing.assert_allclose(got, module(torch.from_numpy(ids)).numpy(), rtol=0, atol=1e-5)


def test_a_file_of_one_piece_is_what_protobuf_would_have_written(tmp_path: Path):
    module, model = exported(torch.float32)
    whole = ir.to_proto(model)
    artifact, proto = store_exported(model, tmp_path / "exported.onnx", {"b": "2"}, outside=False)
    found = read_model(artifact.path)
    assert list(found.graph.node) == list(whole.graph.node)
    assert list(found.graph.input) == list(whole.graph.input)
    assert list(found.graph.value_info) == list(whole.graph.value_info)
    assert {m.key: m.value for m in found.metadata_props} == {"b": "2"}
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in whole.graph.initializer}
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in found.graph.initializer}
    assert arrays.keys() == expected.keys()
    assert all(np.array_equal(arrays[name], value) for name, value in expected.items())
    # The model can still be used: its values are its own again.
    kept = model.graph.initializers["table.weight"].const_value
    assert kept is not None and np.array_equal(kept.numpy(), module.table.weight.numpy())
    # In the order in which protobuf writes, so that tools that load and save change no byte.
    assert found.SerializeToString(deterministic=True) == artifact.path.read_bytes()
    again, _ = store_exported(model, tmp_path / "again.onnx", {"b": "2"}, outside=False)
    assert again.sha256 == artifact.sha256
    assert {t.name for t in external_tensors(proto)} >= {"table.weight", "first.weight"}


class Computes(nn.Module):
    """Weights from which the simplifier makes constants: scaled, and cut in two."""

    def __init__(self) -> None:
        super().__init__()
        self.scaled, self.cut = nn.Linear(WIDTH, INNER), nn.Linear(WIDTH, 2 * INNER)
        self.plain = nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        left = x @ (self.scaled.weight.T * 0.5)
        return self.plain(left + x @ self.cut.weight[:INNER].T)


@pytest.mark.parametrize("outside", [False, True])
def test_what_can_be_computed_of_large_weights_is_computed(tmp_path: Path, outside: bool):
    torch.manual_seed(0)
    module = Computes().eval().requires_grad_(False)
    x = torch.randn(3, WIDTH)
    model = export(
        capture(module, {"x": x}, {"x": {0: torch.export.Dim("frames")}}),
        inputs=(spec("x", "float32", "frames", WIDTH),),
        outputs=(spec("y", "float32", "frames", WIDTH),),
        opset=18,
    ).model
    whole = simplify(ir.to_proto(model))
    _, proto = store_exported(model, tmp_path / "exported.onnx", {}, outside=outside)
    found, weights = simplify_stored(proto, tmp_path)
    ops = [node.op_type for node in found.model.graph.node]
    assert ops == [node.op_type for node in whole.model.graph.node]
    assert not {"Transpose", "Slice"} & set(ops)
    # The one that is read as it is has not been in memory.
    assert list(weights) == ["plain.weight"]
    shipped = store_shipped(found.model, weights, tmp_path / "model.onnx", {}, outside=outside)
    got = FileRun(shipped.path, Deployment(threads=1)).run({"x": x.numpy()})["y"]
    np.testing.assert_allclose(got, module(x).numpy(), rtol=0, atol=1e-4)


def test_a_weight_of_another_size_than_it_says_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, model = exported(torch.float32)
    path = tmp_path / "exported.onnx"
    for outside in (False, True):
        monkeypatch.setattr(onnx_file_writer, "_bytes_of", lambda array: memoryview(b"short"))
        with pytest.raises(ValueError, match="not the .* of its shape"):
            store_exported(model, path, {}, outside=outside)
        assert not path.exists()
