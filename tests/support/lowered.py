"""A small conformer with an LSTM, and its file in lower precisions as onnxruntime makes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from exporter.config import load_pipeline
from exporter.execution.quantisers import without_repeats
from exporter.flows.verify import verify
from exporter.report.schema import Report
from tests.support import toy_project
from tests.support.stages import Silent

MODULE = """\
import math

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, size, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)

    def forward(self, x, mask):
        batch, frames, size = x.shape
        parts = self.qkv(x).view(batch, frames, 3, self.heads, size // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-2, -1) / math.sqrt(size // self.heads)
        scores = scores.masked_fill(~mask[:, None, None], -20.0)
        found = torch.softmax(scores, dim=-1) @ value
        return self.out(found.transpose(1, 2).reshape(batch, frames, size))


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.attention = Attention(size, 4)
        self.norm_conv = nn.LayerNorm(size)
        self.conv = nn.Conv1d(size, size, 5, padding=2)
        self.norm_forward = nn.LayerNorm(size)
        self.inner = nn.Linear(size, 2 * size)
        self.outer = nn.Linear(2 * size, size)

    def forward(self, x, mask):
        x = x + self.attention(self.norm(x), mask)
        y = self.norm_conv(x).transpose(1, 2)
        x = x + torch.relu(self.conv(y)).transpose(1, 2)
        return x + self.outer(torch.relu(self.inner(self.norm_forward(x))))


class Net(nn.Module):
    def __init__(self, size=64, recurrent=True):
        super().__init__()
        self.front = nn.Linear(16, size)
        self.blocks = nn.ModuleList([Block(size), Block(size)])
        self.recurrent = nn.LSTM(size, size, batch_first=True) if recurrent else None
        self.norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, 32)

    def forward(self, x, lengths):
        mask = torch.arange(x.shape[1])[None] < lengths[:, None]
        y = self.front(x)
        for block in self.blocks:
            y = block(y, mask)
        if self.recurrent is not None:
            y, _ = self.recurrent(y)
        return {"logits": self.head(self.norm(y))}


def build():
    torch.manual_seed(0)
    return Net().eval()


def plain():
    torch.manual_seed(0)
    return Net(recurrent=False).eval()
"""
YAML = """\
name: lowered
model: {{factory: "toy_model:{build}"}}
axes: {{frames: {{minimum: 1, example: 17}}}}
inputs:
  x: {{dtype: float32, shape: [batch, frames, 16]}}
  lengths: {{dtype: int64, shape: [batch], draw: {{kind: integers, low: 5, high: 17}}}}
outputs: [logits]
parity: {{precision: {precision}}}
cases:
  - name: noise
    random: {{x: {{kind: normal, seed: 1, sizes: {{batch: 2, frames: 40}}}}}}
    inputs: {{lengths: [40, 25]}}
default_case: noise
"""


def project(folder: Path, precision: str, *, build: str = "build") -> Path:
    """Write the module and a pipeline that declares ``precision``; returns the YAML."""
    text = YAML.format(build=build, precision=precision)
    return toy_project.project(folder, module=MODULE, yaml=text)


def to_float16(source: Path, target: Path, **options: Any) -> Path:
    """onnxruntime's own converter to float16; inputs and outputs stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    converted = OnnxModel(
        convert_float_to_float16(onnx.load(source), **({"keep_io_types": True} | options))
    )
    # The converter writes one cast for every reader, all with one name, and behind the readers.
    without_repeats(converted.model.graph.node)
    converted.topological_sort()
    onnx.save(converted.model, target)
    return target


def to_dynamic(source: Path, target: Path, **options: Any) -> Path:
    """Weights of products in int8, activations quantised as they come."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, target, **options)
    return target


def to_static(
    source: Path, target: Path, cases: Iterable[dict[str, np.ndarray]], *, qdq: bool, **options: Any
) -> Path:
    """Weights and activations in int8, calibrated on ``cases``; QDQ pairs, or QLinear operators."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(list(cases))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rows, None)

    form = QuantFormat.QDQ if qdq else QuantFormat.QOperator
    quantize_static(str(source), str(target), Reader(), quant_format=form, **options)
    return target


def to_bits(source: Path, target: Path, bits: int) -> Path:
    """Weights of products in blocks of ``bits`` bits (MatMulNBits)."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(source)
    _products(model)
    quantizer = MatMulNBitsQuantizer(model, bits=bits, block_size=32)
    quantizer.process()
    quantizer.model.save_model_to_file(str(target))
    return target


def _products(model: onnx.ModelProto) -> None:
    """Write every Gemm as a product and an addition, in place."""
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "Gemm":
            model.graph.node.append(node)
            continue
        left, right, bias = node.input
        product = f"{node.output[0]}_product"
        model.graph.node.add(
            op_type="MatMul", name=f"{node.name}_product", input=[left, right], output=[product]
        )
        model.graph.node.add(
            op_type="Add", name=f"{node.name}_sum", input=[product, bias], output=node.output[:]
        )


def made(folder: Path) -> Path:
    """Export the model once; returns the folder of the run, beside which files may be judged."""
    from exporter import cli

    out = folder / "out"
    command = ["run", str(project(folder / "float32", "float32")), "--output-dir", str(out)]
    code = cli.main([*command, "--trust", "--threads", "1", "--quiet"])
    if code != 0:
        raise RuntimeError(f"the healthy model exits with {code}")
    return out


def judged(folder: Path, file: Path, precision: str) -> Report:
    """``verify`` of a file against the model, with a declared precision."""
    yaml = folder / precision / "toy.yaml"
    if not yaml.is_file():
        project(folder / precision, precision)
    return verify(
        load_pipeline(yaml),
        onnx=file,
        output_dir=folder / "out",
        progress=Silent(),
        trust=True,
        threads=1,
    )


def calibration() -> list[dict[str, np.ndarray]]:
    """Three cases of the model's kind."""
    rng = np.random.default_rng(0)
    return [
        {"x": rng.normal(size=(2, 40, 16)).astype(np.float32), "lengths": np.array([40, 25])}
        for _ in range(3)
    ]


def values(model: onnx.ModelProto, name: str) -> np.ndarray:
    """An initialiser."""
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def store(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    """Replace an initialiser, in place."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))


def weight_of(model: onnx.ModelProto, layer: int) -> str:
    """Name of the weight of ``blocks.<layer>.inner`` in the float32 file."""
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    bias = f"model.blocks.{layer}.inner.bias"
    return next(node.input[1] for node in gemms if node.input[2] == bias)
