"""Ways to a pass with a file in lower precision: a fault that hides in what the precision costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.flows import given_file
from tests.false_passes.way import Told, way
from tests.support import lowered


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("precision")
    lowered.made(made)
    return made


def told(folder: Path, file: Path, precision: str) -> Told:
    report = lowered.judged(folder, file, precision)
    reasons = [link.reason or "" for link in report.links] + [c.reason for c in report.culprits]
    return Told(exit_code=report.exit_code, text="\n".join([report.headline, *reasons]))


def source(folder: Path) -> onnx.ModelProto:
    return onnx.load(folder / "out" / "model.onnx")


def alone(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file as somebody else would have it: no metadata, and no name that means anything."""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    kept = {value.name for value in (*model.graph.input, *model.graph.output)} | {""}
    names: dict[str, str] = {}
    for tensor in model.graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"w{len(names)}")
    for node in model.graph.node:
        node.name = ""
        for place, name in enumerate(node.output):
            if name not in kept:
                node.output[place] = names.setdefault(name, f"v{len(names)}")
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    return model


def epsilon(model: onnx.ModelProto) -> None:
    norm = [node for node in model.graph.node if node.op_type == "LayerNormalization"][2]
    next(item for item in norm.attribute if item.name == "epsilon").f = 0.1


def one_row_twice(model: onnx.ModelProto) -> None:
    name = lowered.weight_of(model, 0)
    held = lowered.values(model, name).copy()
    held[:, 3] = held[:, 4]
    lowered.store(model, name, held)


def no_mask(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Where":
            node.op_type, node.input[:] = "Identity", [node.input[2]]


def no_root(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Div":
            node.op_type, node.input[:] = "Identity", [node.input[0]]


def attempt(folder: Path, tmp_path: Path, fault, precision: str) -> Told:
    model = source(folder)
    fault(model)
    onnx.save(alone(model), tmp_path / "plain.onnx")
    lower = lowered.to_float16 if precision == "float16" else lowered.to_dynamic
    return told(folder, lower(tmp_path / "plain.onnx", tmp_path / "low.onnx"), precision)


@way("outputs alone, float16: a normalisation has the epsilon 0.1", says="limit")
def test_epsilon_in_float16(folder: Path, tmp_path: Path):
    return attempt(folder, tmp_path, epsilon, "float16")


@way("outputs alone, float16: a row of a weight stands there twice", says="limit")
def test_row_in_float16(folder: Path, tmp_path: Path):
    return attempt(folder, tmp_path, one_row_twice, "float16")


@way("outputs alone, float16: the attention mask is dropped", says="limit")
def test_mask_in_float16(folder: Path, tmp_path: Path):
    return attempt(folder, tmp_path, no_mask, "float16")


@way("outputs alone, float16: scores are not divided by the root", says="limit")
def test_root_in_float16(folder: Path, tmp_path: Path):
    return attempt(folder, tmp_path, no_root, "float16")


@way("no names, int8: a normalisation has the epsilon 0.1", says="'model.blocks.0.norm_forward'")
def test_epsilon_in_int8(folder: Path, tmp_path: Path):
    return attempt(folder, tmp_path, epsilon, "int8_weights")


@way("no names, int8: an epsilon that int8 would hide", says="in 'layer_norm_2', not found in")
def test_small_epsilon_in_int8(folder: Path, tmp_path: Path):
    def small(model: onnx.ModelProto) -> None:
        norm = [node for node in model.graph.node if node.op_type == "LayerNormalization"][2]
        next(item for item in norm.attribute if item.name == "epsilon").f = 1e-2

    return attempt(folder, tmp_path, small, "int8_weights")


@way("no names, int8: a row of a weight stands there twice", says="layer 'model.blocks.0.inner'")
def test_row_in_int8(folder: Path, tmp_path: Path):
    return attempt(folder, tmp_path, one_row_twice, "int8_weights")


@way("outputs alone, int8: the attention mask is dropped", says="what int8 costs here")
def test_mask_in_int8(folder: Path, tmp_path: Path):
    return attempt(folder, tmp_path, no_mask, "int8_weights")


@way("outputs alone, int8: scores are not divided by the root", says="the largest of a row")
def test_root_in_int8(folder: Path, tmp_path: Path):
    return attempt(folder, tmp_path, no_root, "int8_weights")


@way("a file with nothing wrong but int8 at outputs alone", says="too coarse to see a fault")
def test_nothing_wrong_that_could_be_seen(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(given_file, "joined_taps", lambda taps, *others: taps)
    return attempt(folder, tmp_path, lambda model: None, "int8_weights")


@way("outputs alone, int8: a row stands there twice", says="limit at the output")
def test_row_in_int8_at_outputs_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(given_file, "joined_taps", lambda taps, *others: taps)
    return attempt(folder, tmp_path, one_row_twice, "int8_weights")


@way("outputs alone, int8: a normalisation has the epsilon 0.1", says="limit at the output")
def test_epsilon_in_int8_at_outputs_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(given_file, "joined_taps", lambda taps, *others: taps)
    return attempt(folder, tmp_path, epsilon, "int8_weights")


@way("a file in 4 bits under int8_weights", says="holds int4 here, coarser than the declared")
def test_four_bits(folder: Path, tmp_path: Path):
    file = lowered.to_bits(folder / "out" / "model.onnx", tmp_path / "four.onnx", 4)
    return told(folder, file, "int8_weights")


@way(
    "4 bits in integers of 8 under int8_weights", says="holds int4 here, coarser than the declared"
)
def test_four_bits_in_eight(folder: Path, tmp_path: Path):
    file = lowered.to_dynamic(folder / "out" / "model.onnx", tmp_path / "low.onnx")
    model = onnx.load(file)
    name = f"{lowered.weight_of(source(folder), 0)}_quantized"
    held = lowered.values(model, name)
    ends = np.iinfo(held.dtype)
    coarse = np.clip(np.rint(held.astype(np.int32) / 17) * 17, ends.min, ends.max)
    lowered.store(model, name, coarse.astype(held.dtype))
    onnx.save(model, file)
    return told(folder, file, "int8_weights")


@way(
    "4 bits at outputs alone under int8_weights", says="holds int4 here, coarser than the declared"
)
def test_four_bits_alone(folder: Path, tmp_path: Path):
    file = lowered.to_bits(folder / "out" / "model.onnx", tmp_path / "four.onnx", 4)
    onnx.save(alone(onnx.load(file)), file)
    return told(folder, file, "int8_weights")


@way("a float16 file under float32", says="holds float16 here, coarser than the declared")
def test_float16_under_float32(folder: Path, tmp_path: Path):
    file = lowered.to_float16(folder / "out" / "model.onnx", tmp_path / "half.onnx")
    return told(folder, file, "float32")


@way("an int8 file under float16", says="holds int8 here, coarser than the declared")
def test_int8_under_float16(folder: Path, tmp_path: Path):
    file = lowered.to_dynamic(folder / "out" / "model.onnx", tmp_path / "low.onnx")
    return told(folder, file, "float16")


@way("int8_weights over a float32 file with a rounded weight", says="4 x the rounding floor")
def test_declared_int8_over_a_float32_file(folder: Path, tmp_path: Path):
    model = source(folder)
    name = lowered.weight_of(model, 0)
    lowered.store(model, name, lowered.values(model, name).astype(np.float16).astype(np.float32))
    onnx.save(model, tmp_path / "rounded.onnx")
    return told(folder, tmp_path / "rounded.onnx", "int8_weights")


@way("int8 beside a normalisation with another epsilon that stays float32", says="layer_norm")
def test_epsilon_beside_int8(folder: Path, tmp_path: Path):
    model = onnx.load(lowered.to_dynamic(folder / "out" / "model.onnx", tmp_path / "low.onnx"))
    norm = [node for node in model.graph.node if node.op_type == "LayerNormalization"][2]
    next(item for item in norm.attribute if item.name == "epsilon").f = 1e-3
    onnx.save(model, tmp_path / "low.onnx")
    return told(folder, tmp_path / "low.onnx", "int8_weights")


@way("a zero point one step off behind a normalisation", says="steps beside PyTorch's on average")
def test_zero_point_that_no_number_shows(folder: Path, tmp_path: Path):
    model = onnx.load(lowered.to_dynamic(folder / "out" / "model.onnx", tmp_path / "low.onnx"))
    name = f"{lowered.weight_of(source(folder), 0)}_zero_point"
    held = lowered.values(model, name)
    lowered.store(model, name, (held + 1).astype(held.dtype))
    onnx.save(model, tmp_path / "low.onnx")
    return told(folder, tmp_path / "low.onnx", "int8_weights")


@way("a scale a hundred times too large widens its own limit", says="limit")
def test_scale_that_widens_its_own_limit(folder: Path, tmp_path: Path):
    model = onnx.load(lowered.to_dynamic(folder / "out" / "model.onnx", tmp_path / "low.onnx"))
    name = f"{lowered.weight_of(source(folder), 0)}_scale"
    lowered.store(model, name, lowered.values(model, name) * np.float32(100))
    onnx.save(model, tmp_path / "low.onnx")
    return told(folder, tmp_path / "low.onnx", "int8_weights")


def test_a_healthy_float16_file_passes_with_outputs_alone(folder: Path, tmp_path: Path):
    assert attempt(folder, tmp_path, lambda model: None, "float16").exit_code == 0


def test_a_healthy_int8_file_passes_where_its_values_are_joined(folder: Path, tmp_path: Path):
    found = attempt(folder, tmp_path, lambda model: None, "int8_weights")
    assert found.exit_code == 0, found.text
    assert "values inside compared one by one" in found.text
