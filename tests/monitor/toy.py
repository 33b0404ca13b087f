"""A certified toy with a VAD and tokens, its golden, and what a monitor keeps beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporter.config import Pipeline
from exporter.config.load import load_pipeline
from exporter.config.run_options import RunOptions
from exporter.core.artifact import Artifact, sha256_of
from exporter.flows import monitor as flow
from exporter.flows.golden_record import record_file
from exporter.graph.certificate import certify
from tests.support.segment_toys import toy_file

YAML = """\
name: toy
model: {onnx: model.onnx}
axes:
  num_samples: {multiple_of: 4, example: 32}
inputs:
  waveform: {dtype: float32, shape: [num_samples], draw: {kind: normal, scale: 0.1}}
outputs: [segments, peaks, total, token_ids, token_lengths]
default_case: loud
cases:
  - {name: loud, random: {waveform: {kind: normal, seed: 1, scale: 0.5, num_samples: 64}}}
  - {name: quiet, random: {waveform: {kind: normal, seed: 2, scale: 0.01, num_samples: 32}}}
"""
OUTPUTS = ("segments", "peaks", "total", "token_ids", "token_lengths")


def served_file(folder: Path) -> Path:
    """A toy whose tokens are its samples in tenths; certified."""
    nodes = [
        helper.make_node("Mul", ["weighed", "ten"], ["tenths"]),
        helper.make_node("Constant", [], ["ten"], value_float=10.0),
        helper.make_node("Cast", ["tenths"], ["token_ids"], to=TensorProto.INT64),
        helper.make_node("Mul", ["nothing_per_row", "block"], ["no_tokens"]),
        helper.make_node("Squeeze", ["no_tokens", "axis_1"], ["zeros"]),
        helper.make_node("Add", ["zeros", "block"], ["token_lengths"]),
    ]
    order = [nodes[1], nodes[0], *nodes[2:]]
    path = toy_file(folder, extra=order, outputs=OUTPUTS)
    certified(path)
    return path


def certified(path: Path) -> None:
    """Put a certificate on a file, whatever it computes."""
    model = onnx.load(path)
    artifact = Artifact(
        path=path,
        sha256=sha256_of(path),
        bytes=path.stat().st_size,
        nodes=len(model.graph.node),
        metadata={},
        external={},
    )
    certify(artifact, {"verdict": "pass"})


def toy(folder: Path) -> tuple[Path, Path]:
    """File and folder of its golden, with what a monitor needs beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = served_file(folder)
    golden = folder / "golden"
    record_file(pipeline(folder), RunOptions(golden_dir=golden), reason="toy")
    flow.record(pipeline(folder), golden / "toy", None)
    return path, golden / "toy"


def pipeline(folder: Path) -> Pipeline:
    (folder / "toy.yaml").write_text(YAML, encoding="utf-8")
    return load_pipeline(folder / "toy.yaml")


def changed(path: Path, *, weight: float = 1.0, certify_again: bool = False) -> None:
    """Put another file in its place, as a careless deployment does."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "weight":
            array = onnx.numpy_helper.to_array(tensor) * np.float32(weight)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, "weight"))
    if certify_again:
        del model.metadata_props[1:]
    onnx.save(model, path)
    if certify_again:
        certified(path)
